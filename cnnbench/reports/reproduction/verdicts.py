"""The rule by which a statement about a figure is judged, and figures of repeated runs.

A statement is a range that a figure lies in, such as "the difference is above 0". It is repeated if the figure lies in
it with two standard errors to either side, not repeated if the figure lies outside with them, and undecided otherwise,
also where one seed alone leaves the error unknown.
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
    "UNDECIDED",
    "Figure",
    "Finding",
    "difference",
    "lies_in",
    "ratio",
    "together",
]

REPEATED, NOT_REPEATED, IN_PART, UNDECIDED = "repeated", "not repeated", "in part", "undecided"
ERRORS = 2.0  # standard errors to either side

RULE = (
    "A statement is a range that a figure must lie in. It is repeated if the figure lies there with two standard "
    "errors to either side, not repeated if it lies outside with them, undecided otherwise: the difference is within "
    "noise or none, there is one seed only, or runs are missing. A claim of several statements is repeated in part if "
    "one is repeated and another is not, or is undecided."
)


@dataclass(frozen=True)
class Figure:
    """A figure and its standard error: None if it is not known, 0 if the figure is computed and exact."""

    value: float
    error: float | None

    @classmethod
    def mean(cls, values: Sequence[float]) -> "Figure | None":
        """The mean over repeated runs; None if there are none."""
        if not values:
            return None
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        return cls(statistics.fmean(values), error)


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
    known = one.error is not None and other.error is not None
    return Figure(one.value - other.value, math.hypot(one.error or 0.0, other.error or 0.0) if known else None)


def ratio(one: Figure | None, other: Figure | None) -> Figure | None:
    """The first divided by the second, by the first order of the errors; None if the second is 0."""
    if one is None or other is None or not one.value or not other.value:
        return None
    value = one.value / other.value
    if one.error is None or other.error is None:
        return Figure(value, None)
    return Figure(value, abs(value) * math.hypot(one.error / one.value, other.error / other.value))


def lies_in(figure: Figure | None, low: float, high: float) -> str:
    """The verdict on a statement: whether the figure lies between `low` and `high`."""
    if figure is None or figure.error is None:
        return UNDECIDED
    least, most = figure.value - ERRORS * figure.error, figure.value + ERRORS * figure.error
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
    return IN_PART if REPEATED in verdicts else UNDECIDED
