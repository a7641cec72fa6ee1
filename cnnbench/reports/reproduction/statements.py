"""Read conf/claims.yaml: the claims of the course notes, and the networks of book and course."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from cnnbench import config
from cnnbench.config.field_types import Group, PositiveFloat, Ratio, Text
from cnnbench.errors import ConfigError, did_you_mean

__all__ = [
    "Claim",
    "Finding",
    "Network",
    "Paper",
    "Statements",
    "load_statements",
    "parse_arm",
]

T = TypeVar("T")
OPTIONAL: dict[str, Any] = {"course": {}, "papers": {}, "gpu_minutes": {}}
EXPERIMENT = "experiment="
COMMA = re.compile(r",(?![^\[]*\])")  # not inside a list


class Finding(Group, frozen=True, kw_only=True):
    """A figure and its stated range. conf/claims.yaml explains the keys."""

    figure: Text
    experiment: str = ""
    arms: Annotated[list[Text], Meta(max_length=2)] = msgspec.field(default_factory=list)
    text: str = ""
    low: float = -math.inf
    high: float = math.inf
    stated: str = ""
    only_if: Literal["full_scale", "overfits"] | None = None

    def __post_init__(self) -> None:
        names = [name for name, _ in self.placed_arms]
        is_of_runs = bool(names) and all(names)
        is_computed = not names and not self.experiment
        if not (is_computed if self.text else is_of_runs):
            raise ConfigError(f"{self.figure} needs either experiment and arms, or a text.")
        if not self.low < self.high:
            raise ConfigError(f"{self.figure}: low={self.low:g} is not below high={self.high:g}.")
        if bool(self.stated) == (math.isinf(self.low) and math.isinf(self.high)):
            raise ConfigError(f"{self.figure} needs both a range and, as stated, its words.")

    @property
    def placed_arms(self) -> list[tuple[str, str]]:
        """Return the experiment and the other overrides of each arm."""
        placed = []
        for arm in self.arms:
            words = arm.split()
            named = [word for word in words if word.startswith(EXPERIMENT)]
            experiment = named[0].removeprefix(EXPERIMENT) if named else self.experiment
            placed.append((experiment, " ".join(word for word in words if word not in named)))
        return placed


class Claim(Group, frozen=True):
    """A claim, of the course notes or of the user, and its findings."""

    text: Text
    findings: Annotated[list[Finding], Meta(min_length=1)]

    @property
    def experiments(self) -> list[str]:
        placed = chain(*(finding.placed_arms for finding in self.findings))
        return list(dict.fromkeys(name for name, _ in placed))


class Network(Group, frozen=True):
    """A network, and the test accuracies of two runs of the book's code if they are known."""

    title: Text
    accuracies: Annotated[list[Ratio], Meta(min_length=1)] | None = None


class Paper(Group, frozen=True):
    """A network with the figure of its paper, and the estimated minutes to train it on a GPU."""

    title: Text
    figure: Text
    minutes: PositiveFloat


class Statements(NamedTuple):
    """The statements of conf/claims.yaml.

    The claims are by their number; the networks of book, course and papers, and the minutes that an
    experiment takes on a GPU, are by their experiment.
    """

    book: dict[str, Network]
    course: dict[str, Network]
    claims: dict[str, Claim]
    papers: dict[str, Paper]
    gpu_minutes: dict[str, float]


def load_statements(
    path: Path,
    jobs: Mapping[str, Sequence[Sequence[str]]],
    trained: Collection[str],
    computed: Collection[str],
) -> Statements:
    """Return the statements of conf/claims.yaml.

    They may name overrides of the `jobs` of an experiment, figures of trained runs, which are in
    `trained`, and figures that need no runs, which are in `computed`.

    Raises:
        ConfigError: the file is damaged, or names an unknown experiment, override or figure.
    """
    try:
        values = OPTIONAL | config.parse(path.read_text(encoding="utf-8"))
        statements = Statements(
            _read(Network, values, "book"),
            _read(Network, values, "course"),
            _read(Claim, values, "claims"),
            _read(Paper, values, "papers"),
            _read(float, values, "gpu_minutes"),
        )
        _check_known("book", statements.book, jobs)
        _check_known("course", statements.course, jobs)
        _check_known("gpu_minutes", statements.gpu_minutes, jobs)
        for number, claim in statements.claims.items():
            place = f"claims.{number}"
            _check_known(f"{place}.experiment", claim.experiments, jobs)
            for finding in claim.findings:
                figures = computed if finding.text else trained
                _check_known(f"{place}.figure", [finding.figure], figures)
                for name, arm in finding.placed_arms:
                    known = set(chain(*jobs[name]))
                    _check_known(f"{place}.arms", chain(*parse_arm(arm)), known)
    except (ConfigError, UnicodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return statements


def _read(schema: type[T], values: Mapping[str, Any], group: str) -> dict[str, T]:
    entries = values.get(group)
    if not isinstance(entries, dict):
        raise ConfigError(f"{group} is not a group of keys.")
    read = {}
    for name, entry in entries.items():
        read[str(name)] = config.from_dict(schema, entry, f"{group}.{name}")
    return read


def _check_known(place: str, words: Iterable[str], known: Collection[str]) -> None:
    for word in words:
        if word not in known:
            raise ConfigError(f"{place}: '{word}' is not known. {did_you_mean(word, known)}")


def parse_arm(arm: str) -> list[set[str]]:
    """Return sets of overrides from text such as ``model=lenet optimizer.lr=0.1,1``.

    An arm has one override of each set.
    """
    parsed = []
    for word in arm.split():
        key, _, values = word.partition("=")
        parsed.append({f"{key}={value}" for value in COMMA.split(values)})
    return parsed
