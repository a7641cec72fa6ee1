"""Read conf/claims.yaml: the claims of the course notes, and the accuracies of the book."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from cnnbench import config
from cnnbench.analysis.judge import Estimates
from cnnbench.config.schema import Group, Ratio, Text
from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["Claim", "Finding", "Network", "Statements", "Varied", "load_statements", "parse_arm"]

Names = Collection[str]
Varied = Mapping[str, Mapping[str, str]]  # of each experiment the values by their key
T = TypeVar("T")


class Finding(Group, frozen=True, kw_only=True):
    """A figure and the range that was stated: conf/claims.yaml explains the keys."""

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
    """A claim of the course notes, or of anyone, and what it says of figures."""

    text: Text
    findings: Annotated[list[Finding], Meta(min_length=1)]

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(each.experiment for each in self.findings if each.experiment))


class Network(Group, frozen=True):
    """A network of the book, with the test accuracies of two runs of its code if they are known."""

    title: Text
    accuracies: Annotated[list[Ratio], Meta(min_length=1)] | None = None


@dataclass(frozen=True)
class Statements:
    """`book` has the networks by their experiment, `claims` the claims by their number.

    They are about the experiments in `varied` and the figures in `computed`.
    """

    book: Mapping[str, Network]
    claims: Mapping[str, Claim]
    varied: Varied
    computed: Estimates


def load_statements(path: Path, varied: Varied, trained: Names, computed: Estimates) -> Statements:
    """Return what conf/claims.yaml states.

    It may name the experiments in `varied`, and figures that are `trained` for or `computed`.

    Raises:
        ConfigError: it is damaged, or names what is not there.
    """
    try:
        values = config.parse(path.read_text(encoding="utf-8"))
        book, claims = _read(Network, values, "book"), _read(Claim, values, "claims")
        _check_known("book", book, varied)
        for number, claim in claims.items():
            for finding in claim.findings:
                figures = trained if finding.experiment else computed
                _check_known(f"claims.{number}.figure", [finding.figure], figures)
                _check_arms(f"claims.{number}", finding, varied)
    except (ConfigError, UnicodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return Statements(book, claims, varied, computed)


def _read(schema: type[T], values: Mapping[str, Any], group: str) -> dict[str, T]:
    entries = values.get(group)
    if not isinstance(entries, dict):
        raise ConfigError(f"{group} is not a group of keys.")
    read = {}
    for name, entry in entries.items():
        read[str(name)] = config.from_dict(schema, entry, f"{group}.{name}")
    return read


def _check_arms(place: str, finding: Finding, varied: Varied) -> None:
    for arm in finding.arms:
        _check_known(f"{place}.experiment", [finding.experiment], varied)
        own = varied[finding.experiment]
        asked = parse_arm(arm)
        _check_known(f"{place}.arms", asked, own)
        for key, values in asked.items():
            _check_known(f"{place}.arms: {key}", values, own[key].split(","))


def _check_known(place: str, words: Names, known: Names) -> None:
    for word in words:
        if word not in known:
            raise ConfigError(f"{place}: '{word}' is not known. {did_you_mean(word, known)}")


def parse_arm(arm: str) -> dict[str, list[str]]:
    """Return the values of each key of an arm, such as ``model=lenet model.pooling=avg,max``."""
    words = (word.partition("=") for word in arm.split())
    return {key: values.split(",") for key, _, values in words}
