"""The rule by which a statement about a figure is judged, and figures of repeated runs.

A statement is a range that a figure lies in, such as "the difference is above 0". It is repeated if all of the figure's
95 % confidence interval lies in it, not repeated if all of that lies outside, and undecided otherwise, also where one
seed alone leaves the error unknown. Few runs tell their own spread badly, so that the interval is Student's; of two
groups whose spread differs it is Welch's.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "IN_PART",
    "NOT_REPEATED",
    "REPEATED",
    "RULE",
    "STUDENT",
    "UNDECIDED",
    "Figure",
    "Finding",
    "difference",
    "lies_in",
    "ratio",
    "together",
]

REPEATED, NOT_REPEATED, IN_PART, UNDECIDED = "repeated", "not repeated", "in part", "undecided"
# Standard errors to either side of a mean that hold 95 % of Student's distribution, of 1, 2, ... degrees of freedom.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # the last for more, too

RULE = (
    "A statement is a range that a figure must lie in. It is repeated if all of the figure's 95 % confidence interval "
    "(Student's, of differences Welch's) lies there, not repeated if all of it lies outside, undecided otherwise: the "
    "difference is within noise or none, there is one seed only, or runs are missing. A claim of several statements is "
    "repeated in part if one is repeated and another is not, or is undecided; not repeated if none is repeated and one "
    "is not."
)


@dataclass(frozen=True)
class Figure:
    """A figure and its standard error: None if it is not known, 0 if the figure is computed and exact.

    `freedom` is how many degrees of freedom the error has.
    """

    value: float
    error: float | None
    freedom: float = math.inf

    @classmethod
    def mean(cls, values: Sequence[float]) -> "Figure | None":
        """The mean over repeated runs; None if there are none."""
        if not values:
            return None
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        return cls(statistics.fmean(values), error, len(values) - 1)

    @property
    def margin(self) -> float | None:
        """Half of the 95 % confidence interval."""
        if not self.error:
            return self.error
        return STUDENT[int(min(self.freedom, len(STUDENT))) - 1] * self.error  # by fewer degrees: rather too wide


@dataclass(frozen=True)
class Finding:
    """A sentence with what was measured, and the verdict on what was `stated`; None for a remark on nothing stated."""

    sentence: str
    verdict: str | None = None
    stated: str = ""


def difference(one: Figure | None, other: Figure | None) -> Figure | None:
    """The first less the second, of runs that are independent."""
    if one is None or other is None:
        return None
    return Figure(one.value - other.value, *_together(one, other, 1.0, 1.0))


def ratio(one: Figure | None, other: Figure | None) -> Figure | None:
    """The first divided by the second, by the first order of the errors; None if the second is 0."""
    if one is None or other is None or not one.value or not other.value:
        return None
    value = one.value / other.value
    return Figure(value, *_together(one, other, value / one.value, value / other.value))


def _together(one: Figure, other: Figure, weight: float, other_weight: float) -> tuple[float | None, float]:
    """The standard error of a sum of both, each weighed, and its degrees of freedom by Welch and Satterthwaite."""
    if one.error is None or other.error is None:
        return None, math.inf
    squares = (weight * one.error) ** 2, (other_weight * other.error) ** 2
    spread = squares[0] ** 2 / one.freedom + squares[1] ** 2 / other.freedom
    return math.sqrt(sum(squares)), sum(squares) ** 2 / spread if spread else math.inf


def lies_in(figure: Figure | None, low: float, high: float) -> str:
    """The verdict on a statement: whether the figure lies between `low` and `high`."""
    if figure is None or figure.margin is None:
        return UNDECIDED
    least, most = figure.value - figure.margin, figure.value + figure.margin
    if low < least and most < high:
        return REPEATED
    if most < low or high < least:
        return NOT_REPEATED
    return UNDECIDED


def together(findings: Sequence[Finding]) -> str:
    """The verdict on a claim of several statements."""
    verdicts = {finding.verdict for finding in findings if finding.verdict is not None}
    if len(verdicts) == 1:
        return verdicts.pop()
    if REPEATED in verdicts:
        return IN_PART
    return NOT_REPEATED if NOT_REPEATED in verdicts else UNDECIDED
