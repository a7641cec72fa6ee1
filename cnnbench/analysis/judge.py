"""Judge a figure by the range that was stated for it, with its 95 % confidence interval."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from scipy import stats  # type: ignore[import-untyped]  # scipy has no types

__all__ = ["UNKNOWN", "Estimate", "combine", "difference", "judge", "mean", "ratio"]


class Estimate(NamedTuple):
    """A figure and half of its 95 % confidence interval: 0 if it is exact, NaN if unknown."""

    value: float
    margin: float = 0.0

    def show(self, form: str) -> str:
        margin = f" ± {self.margin:{form}}" if self.margin > 0 else ""
        return f"{self.value:{form}}{margin}"


UNKNOWN = Estimate(math.nan, math.nan)


def mean(samples: Sequence[float]) -> Estimate:
    """Return the mean of repeated runs, with Student's interval."""
    return _estimate(fmean(samples), stats.ttest_1samp, samples, popmean=0)


def difference(ones: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the mean of `ones` less that of `others`, with Welch's interval."""
    value = fmean(ones) - fmean(others)
    return _estimate(value, stats.ttest_ind, ones, others, equal_var=False)


def ratio(ones: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the mean of `ones` divided by that of `others`, with an interval of first order.

    Scaled to the same mean, the one group and the other vary the ratio as they vary a difference.
    """
    base = fmean(others)
    if base == 0:
        return UNKNOWN
    value = fmean(ones) / base
    scaled = [one / base for one in ones], [other * value / base for other in others]
    return Estimate(value, difference(*scaled).margin)


def _estimate(value: float, test: Callable[..., Any], *groups: Any, **options: Any) -> Estimate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of groups of one value or of equal ones
        interval = test(*groups, **options).confidence_interval(0.95)
    return Estimate(value, float(interval.high - interval.low) / 2)


def judge(estimate: Estimate, low: float, high: float) -> str:
    """Return the verdict on the statement that the figure lies between `low` and `high`."""
    least, most = estimate.value - estimate.margin, estimate.value + estimate.margin
    if low < least and most < high:
        return "repeated"
    return "not repeated" if most < low or high < least else "undecided"


def combine(verdicts: Iterable[str]) -> str:
    """Return the verdict on a claim of several statements."""
    given = set(verdicts)
    if len(given) == 1:
        return given.pop()
    if "repeated" in given:
        return "in part"
    return "not repeated" if "not repeated" in given else "undecided"
