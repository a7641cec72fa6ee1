"""Compare a figure and its 95 % confidence interval with the range that a claim states."""

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
        """Return the figure and, if it is known and not 0, the margin: "1.50 ± 0.25"."""
        margin = f" ± {self.margin:{form}}" if self.margin > 0 else ""
        return f"{self.value:{form}}{margin}"


UNKNOWN = Estimate(math.nan, math.nan)


def mean(samples: Sequence[float]) -> Estimate:
    """Return the mean of repeated runs, with the interval of Student's t-test."""
    return _estimate(fmean(samples), stats.ttest_1samp, samples, popmean=0)


def difference(ones: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the mean of `ones` minus the mean of `others`, with the interval of Welch's t-test."""
    value = fmean(ones) - fmean(others)
    return _estimate(value, stats.ttest_ind, ones, others, equal_var=False)


def ratio(ones: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the mean of `ones` divided by the mean of `others`, or UNKNOWN if the latter is 0.

    The interval is a first-order approximation: that of the difference of both groups after scaling
    them to the same mean.
    """
    base = fmean(others)
    if base == 0:
        return UNKNOWN
    value = fmean(ones) / base
    scaled_ones = [one / base for one in ones]
    scaled_others = [other * value / base for other in others]
    return Estimate(value, difference(scaled_ones, scaled_others).margin)


def _estimate(value: float, test: Callable[..., Any], *groups: Any, **options: Any) -> Estimate:
    with warnings.catch_warnings():
        # scipy warns about groups of one value and groups of equal values.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = test(*groups, **options).confidence_interval(0.95)
    return Estimate(value, float(interval.high - interval.low) / 2)


def judge(estimate: Estimate, low: float, high: float) -> str:
    """Return the verdict on the statement that the figure lies between `low` and `high`.

    It is "repeated" if the interval lies inside the range, "not repeated" if it lies outside, and
    otherwise "undecided".
    """
    lower, upper = estimate.value - estimate.margin, estimate.value + estimate.margin
    if low < lower and upper < high:
        return "repeated"
    return "not repeated" if upper < low or high < lower else "undecided"


def combine(verdicts: Iterable[str]) -> str:
    """Return the verdict on a claim of several statements."""
    distinct = set(verdicts)
    if len(distinct) == 1:
        return distinct.pop()
    if "repeated" in distinct:
        return "in part"
    return "not repeated" if "not repeated" in distinct else "undecided"
