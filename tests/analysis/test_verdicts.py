"""The rule that statements are judged by."""

import math

import pytest
from scipy import stats

from cnnbench.analysis.verdicts import (
    IN_PART,
    NOT_REPEATED,
    REPEATED,
    STUDENT,
    UNDECIDED,
    Figure,
    Finding,
    difference,
    lies_in,
    ratio,
    together,
)


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (0.05, 0.0179, REPEATED),
        (0.05, 0.0181, UNDECIDED),  # 2.78 standard errors, of 4 degrees of freedom, reach the end of the range
        (-0.05, 0.0181, UNDECIDED),
        (-0.05, 0.0179, NOT_REPEATED),
        (0.0, 0.0, UNDECIDED),  # no difference at all is neither above nor below
        (0.5, 0.0, REPEATED),
        (0.05, None, UNDECIDED),  # one seed
    ],
)
def test_a_figure_is_judged_with_its_confidence_interval(value: float, error: float | None, verdict: str) -> None:
    assert lies_in(Figure(value, error, 4), 0, math.inf) == verdict


def test_the_interval_is_students() -> None:
    expected = [stats.t.ppf(0.975, freedom) for freedom in range(1, len(STUDENT) + 1)]
    assert expected == pytest.approx(STUDENT, abs=0.005)
    assert Figure(1.0, 0.1, 2.9).margin == pytest.approx(0.43)
    assert Figure(1.0, 0.1, 500).margin == pytest.approx(0.223)


def test_the_interval_of_a_difference_is_welchs() -> None:
    groups = [0.80, 0.82, 0.81], [0.70, 0.76, 0.71, 0.79]
    one, other = map(Figure.mean, groups)
    found = difference(one, other)
    assert found is not None
    assert found.freedom == pytest.approx(stats.ttest_ind(*groups, equal_var=False).df)
    assert difference(Figure(1.0, 0.0), other) == Figure(pytest.approx(0.26), other and other.error, pytest.approx(3))


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.9, NOT_REPEATED), (3.0, REPEATED), (4.4, UNDECIDED), (5.0, NOT_REPEATED)]
)
def test_a_range_has_two_ends(value: float, verdict: str) -> None:
    assert lies_in(Figure(value, 0.1), 2, 4.5) == verdict


def test_what_was_not_measured_is_undecided() -> None:
    assert lies_in(None, -math.inf, math.inf) == UNDECIDED


def test_the_mean_has_the_standard_error_of_its_runs() -> None:
    figure = Figure.mean([0.1, 0.2, 0.3])
    assert figure is not None
    assert (figure.value, figure.error) == (pytest.approx(0.2), pytest.approx(0.1 / math.sqrt(3)))


def test_one_run_alone_has_no_error() -> None:
    figure = Figure.mean([0.5])
    assert figure is not None
    assert (figure.value, figure.error, figure.margin) == (0.5, None, None)


def test_no_runs_have_no_mean() -> None:
    assert Figure.mean([]) is None


def test_the_errors_of_a_difference_add_up_in_squares() -> None:
    assert difference(Figure(0.9, 0.03), Figure(0.5, 0.04)) == Figure(pytest.approx(0.4), pytest.approx(0.05))


def test_the_relative_errors_of_a_ratio_add_up_in_squares() -> None:
    assert ratio(Figure(6.0, 0.18), Figure(2.0, 0.08)) == Figure(pytest.approx(3.0), pytest.approx(3 * 0.05))


@pytest.mark.parametrize("combined", [difference, ratio])
def test_with_one_error_unknown_the_other_says_nothing(combined: object) -> None:
    assert callable(combined)
    assert combined(Figure(2.0, None), Figure(1.0, 0.1)).error is None
    assert combined(None, Figure(1.0, 0.1)) is None


def test_nothing_is_a_multiple_of_zero() -> None:
    assert ratio(Figure(1.0, 0.0), Figure(0.0, 0.0)) is None


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([REPEATED, REPEATED, None], REPEATED),
        ([NOT_REPEATED, NOT_REPEATED], NOT_REPEATED),
        ([UNDECIDED], UNDECIDED),
        ([REPEATED, UNDECIDED], IN_PART),
        ([REPEATED, NOT_REPEATED], IN_PART),
        ([NOT_REPEATED, UNDECIDED], NOT_REPEATED),
        ([REPEATED, NOT_REPEATED, UNDECIDED], IN_PART),
        ([None], UNDECIDED),
    ],
)
def test_a_claim_is_as_its_statements_are(verdicts: list[str | None], expected: str) -> None:
    assert together([Finding("", verdict) for verdict in verdicts]) == expected
