"""The best epoch, the valid rows of metrics.csv, and the scales of axes."""

import math
from collections.abc import Sequence

import pytest
from helpers.fake_metrics import make_epochs

from cnnbench.analysis.epochs import choose_scale, find_best_row, take_valid_rows

COSINE = [0.1 * (1 + math.cos(math.pi * epoch / 30)) / 2 + 1e-9 for epoch in range(1, 31)]
ONE_CYCLE = [
    *(0.001, 0.003, 0.0047, 0.005, 0.0047, 0.0041),
    *(0.0032, 0.0023, 0.0014, 0.0007, 0.00017, 2e-8),
]
STEPS = [0.1] * 30 + [0.01] * 30 + [0.001] * 30
FALLING = [1.2 / epoch**0.6 for epoch in range(1, 13)]  # from 1.2 to 0.27
MEMORIZED = [1 / epoch**2 for epoch in range(1, 13)]  # from 1 to 0.007


def test_best_row_is_first_of_equal_rows() -> None:
    rows = make_epochs([0.5] * 4, [0.6, 0.8, 0.8, 0.7])
    assert find_best_row(rows) is rows[1]


def test_best_row_needs_validation_set() -> None:
    assert find_best_row(make_epochs([0.5] * 2, [0.6, 0.8], part="test")) is None


@pytest.mark.parametrize(
    ("values", "log"),
    [
        (COSINE, False),
        (ONE_CYCLE, False),
        (STEPS, True),
        (FALLING, False),
        (MEMORIZED, True),
        ([0.9, 0.0, 0.0], False),
    ],
    ids=["cosine", "one-cycle", "steps", "falling", "memorized", "zero"],
)
def test_axis_is_logarithmic_if_many_values_are_small(values: Sequence[float], log: bool) -> None:
    assert choose_scale({"train": values}).log is log


def test_axis_is_linear_if_logarithm_is_not_allowed() -> None:
    assert not choose_scale({"train": MEMORIZED}, may_be_log=False).log


@pytest.mark.parametrize("first", [1e4, 1e30, -5])
def test_scale_ignores_first_epoch_far_from_others(first: float) -> None:
    scale = choose_scale({"train": [first, 2.0, 1.5, 1.2, 1.0], "test": [1.9, 1.8, 1.4, 1.2, 1.1]})
    assert (scale.low, scale.high, scale.log) == (1.0, 2.0, False)


def test_scale_without_first_epoch_may_be_logarithmic() -> None:
    scale = choose_scale({"train": [1e30, *MEMORIZED]})
    assert (scale.low, scale.high, scale.log) == (MEMORIZED[-1], 1.0, True)


@pytest.mark.parametrize(
    "losses",
    [[1e4, 2.0, 1.5, 1.2], [4.0, 2.0, 1.5, 1.2, 1.0], [3.0, 1.0, 1.0, 1.0, 1.0], MEMORIZED],
)
def test_first_epoch_is_shown_if_epochs_are_few_or_close_or_equal(losses: Sequence[float]) -> None:
    scale = choose_scale({"train": losses})
    assert (scale.low, scale.high) == (min(losses), max(losses))


@pytest.mark.parametrize("value", [0.95, 0.0, -3.0])
def test_constant_is_in_middle_of_axis(value: float) -> None:
    assert choose_scale({"lr": [value] * 3}).position(value) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("losses", "middle"), [([3.0, 2.0, 1.0], 2.0), ([100.0, 1.0, 1.0, 1.0], 10.0)]
)
def test_at_is_inverse_of_position(losses: Sequence[float], middle: float) -> None:
    scale = choose_scale({"train": losses})
    assert scale.at(0.5) == pytest.approx(middle)
    positions = [-0.1, 0, 0.7, 1, 1.1]
    recovered = [scale.position(scale.at(position)) for position in positions]
    assert recovered == pytest.approx(positions)


def test_values_without_logarithm_are_below_logarithmic_axis() -> None:
    scale = choose_scale({"train": [-1e9, *MEMORIZED]})
    assert (scale.log, scale.position(-1e9), scale.position(0.0)) == (True, -math.inf, -math.inf)


@pytest.mark.parametrize("losses", [[9e299, 1e-300, 1e-300, 1e-300], [9e299, -9e299]])
def test_extreme_values_have_finite_scale(losses: Sequence[float]) -> None:
    scale = choose_scale({"train": losses})
    assert -math.inf < scale.at(-0.06) < scale.at(1.06) < math.inf


@pytest.mark.parametrize(
    "damage",
    [
        {"train_loss": math.nan},
        {"validation_loss": math.inf},
        {"train_accuracy": 1.01},
        {"validation_accuracy": -1.0},
    ],
)
def test_rows_end_before_first_impossible_value(damage: dict[str, float]) -> None:
    rows = make_epochs([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    rows[1].update(damage)
    assert take_valid_rows(rows) == rows[:1]


def test_rows_with_missing_metrics_are_invalid() -> None:
    assert take_valid_rows([{"epoch": 1.0, "train_loss": 2.0}]) == []
