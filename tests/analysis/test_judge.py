"""Verdicts on claims. The expected quantiles are from published tables of Student's t."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from cnnbench.analysis.judge import Estimate, combine, difference, judge, mean, ratio

MARGIN_OF_3 = 4.3027 / math.sqrt(3)  # the margin of three values with standard deviation 1


@pytest.mark.parametrize(
    ("compute", "samples", "value", "margin"),
    [
        (mean, [[1.0, 3.0]], 2.0, 12.706),  # the standard error is 1
        (mean, [[1.0, 2.0, 3.0]], 2.0, MARGIN_OF_3),
        (mean, [[4.0] * 3], 4.0, 0.0),
        (difference, [[5.0, 6.0, 7.0], [1.0, 2.0, 3.0]], 4.0, 2.7764 * math.sqrt(2 / 3)),
        (difference, [[5.0, 6.0, 7.0], [2.0] * 9], 4.0, MARGIN_OF_3),  # only one group varies
        (difference, [[2.0] * 3, [1.0, 3.0]], 0.0, 12.706),
        (ratio, [[5.5, 6.0, 6.5], [2.0] * 3], 3.0, MARGIN_OF_3 * 0.5 / 2),
        (ratio, [[6.0] * 3, [1.8, 2.0, 2.2]], 3.0, MARGIN_OF_3 * 0.1 * 3),
    ],
)
def test_margins_match_student_and_welch(
    compute: Callable[..., Estimate], samples: list[list[float]], value: Any, margin: Any
) -> None:
    expected = Estimate(pytest.approx(value), pytest.approx(margin, rel=1e-4, abs=1e-12))
    assert compute(*samples) == expected


def test_single_run_has_unknown_margin() -> None:
    unknown = pytest.approx(math.nan, nan_ok=True)
    assert mean([0.5]) == Estimate(0.5, unknown)
    assert difference([0.5], [0.25, 0.25]) == Estimate(0.25, unknown)
    assert ratio([3.0, 3.0], [2.0]) == Estimate(1.5, unknown)


def test_ratio_to_zero_is_undecided() -> None:
    assert judge(ratio([1.0, 1.0], [0.0, 0.0]), -math.inf, math.inf) == "undecided"


@pytest.mark.parametrize(
    ("value", "margin", "verdict"),
    [
        (2.2, 0.1, "repeated"),
        (2.1, 0.2, "undecided"),
        (1.8, 0.1, "not repeated"),
        (4.4, 0.2, "undecided"),
        (4.8, 0.2, "not repeated"),
        (3.0, 0.0, "repeated"),
        (2.0, 0.0, "undecided"),  # an end of the range is neither inside nor outside
        (4.5, 0.0, "undecided"),
        (3.0, math.nan, "undecided"),
    ],
)
def test_judge_compares_interval_with_range(value: float, margin: Any, verdict: str) -> None:
    assert judge(Estimate(value, margin), 2, 4.5) == verdict


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["repeated", "repeated"], "repeated"),
        (["undecided"], "undecided"),
        (["repeated", "undecided"], "in part"),
        (["repeated", "not repeated"], "in part"),
        (["not repeated", "undecided"], "not repeated"),
        ([], "undecided"),
    ],
)
def test_verdict_on_claim_combines_statements(verdicts: list[str], expected: str) -> None:
    assert combine(verdicts) == expected


def test_show_adds_margin() -> None:
    shown = [Estimate(1.5, margin).show(".2f") for margin in (0.25, 0.0, math.nan)]
    assert shown == ["1.50 ± 0.25", "1.50", "1.50"]
    assert Estimate(1.5) == Estimate(1.5, 0.0)  # exact by default
