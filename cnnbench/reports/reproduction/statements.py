"""Read conf/claims.yaml: the claims of the course notes, and the accuracies of the book."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from cnnbench import config
from cnnbench.config.field_types import Group, Ratio, Text
from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["Claim", "Finding", "Network", "Statements", "load_statements", "parse_arm"]

T = TypeVar("T")


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
        if bool(self.experiment) != bool(self.arms) or bool(self.experiment) == bool(self.text):
            raise ConfigError(f"{self.figure} needs either experiment and arms, or a text.")
        if not self.low < self.high:
            raise ConfigError(f"{self.figure}: low={self.low:g} is not below high={self.high:g}.")
        if bool(self.stated) == (math.isinf(self.low) and math.isinf(self.high)):
            raise ConfigError(f"{self.figure} needs both a range and, as stated, its words.")


class Claim(Group, frozen=True):
    """A claim, of the course notes or of the user, and its findings."""

    text: Text
    findings: Annotated[list[Finding], Meta(min_length=1)]

    @property
    def experiments(self) -> list[str]:
        named = [finding.experiment for finding in self.findings if finding.experiment]
        return list(dict.fromkeys(named))


class Network(Group, frozen=True):
    """A network of the book, and the test accuracies of two runs of its code if they are known."""

    title: Text
    accuracies: Annotated[list[Ratio], Meta(min_length=1)] | None = None


class Statements(NamedTuple):
    """The networks of the book by their experiment, and the claims by their number."""

    book: dict[str, Network]
    claims: dict[str, Claim]


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
        values = config.parse(path.read_text(encoding="utf-8"))
        book, claims = _read(Network, values, "book"), _read(Claim, values, "claims")
        _check_known("book", book, jobs)
        for number, claim in claims.items():
            place = f"claims.{number}"
            _check_known(f"{place}.experiment", claim.experiments, jobs)
            for finding in claim.findings:
                figures = trained if finding.experiment else computed
                _check_known(f"{place}.figure", [finding.figure], figures)
                for arm in finding.arms:
                    known = set(chain(*jobs[finding.experiment]))
                    _check_known(f"{place}.arms", chain(*parse_arm(arm)), known)
    except (ConfigError, UnicodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return Statements(book, claims)


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
        parsed.append({f"{key}={value}" for value in values.split(",")})
    return parsed
