"""Judge a figure by the range that was stated for it, with its 95 % confidence interval."""

import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from scipy import stats  # type: ignore[import-untyped]  # scipy has no types

__all__ = [
    "IN_PART",
    "NOT_REPEATED",
    "REPEATED",
    "UNDECIDED",
    "Estimate",
    "Estimates",
    "combine",
    "difference",
    "judge",
    "mean",
    "ratio",
]

REPEATED, NOT_REPEATED = "repeated", "not repeated"
IN_PART, UNDECIDED = "in part", "undecided"


@dataclass(frozen=True)
class Estimate:
    """A figure and half of its 95 % confidence interval: 0 if it is exact, None if unknown."""

    value: float
    margin: float | None = 0.0

    def show(self, form: str) -> str:
        margin = f" ± {self.margin:{form}}" if self.margin else ""
        return f"{self.value:{form}}{margin}"


Estimates = Mapping[str, Estimate]


def mean(samples: Sequence[float]) -> Estimate:
    """Return the mean of repeated runs, with Student's interval."""
    interval = partial(stats.ttest_1samp, popmean=0)
    return Estimate(statistics.fmean(samples), _half_width(interval, samples))


def difference(ones: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the mean of `ones` less that of `others`, with Welch's interval."""
    interval = partial(stats.ttest_ind, equal_var=False)
    value = statistics.fmean(ones) - statistics.fmean(others)
    return Estimate(value, _half_width(interval, ones, others))


def ratio(ones: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the mean of `ones` divided by that of `others`, with an interval of first order.

    Scaled to the same mean, the one group and the other vary the ratio as they vary a difference.
    """
    base = statistics.fmean(others)
    if base == 0:
        return Estimate(math.nan, None)
    value = statistics.fmean(ones) / base
    scaled = [one / base for one in ones], [other * value / base for other in others]
    return Estimate(value, difference(*scaled).margin)


def _half_width(test: Callable[..., Any], *groups: Sequence[float]) -> float | None:
    if min(map(len, groups)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of groups whose values are all equal
        interval = test(*groups).confidence_interval(0.95)
    return float(interval.high - interval.low) / 2


def judge(estimate: Estimate, low: float, high: float) -> str:
    """Return the verdict on the statement that the figure lies between `low` and `high`."""
    if estimate.margin is None:
        return UNDECIDED
    least, most = estimate.value - estimate.margin, estimate.value + estimate.margin
    if low < least and most < high:
        return REPEATED
    return NOT_REPEATED if most < low or high < least else UNDECIDED


def combine(verdicts: Iterable[str]) -> str:
    """Return the verdict on a claim of several statements."""
    given = set(verdicts)
    if len(given) == 1:
        return given.pop()
    if REPEATED in given:
        return IN_PART
    return NOT_REPEATED if NOT_REPEATED in given else UNDECIDED
