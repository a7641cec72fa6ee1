"""The best epoch, what of a metrics.csv can be drawn, and the scales of axes."""

import math
from collections.abc import Sequence

import pytest
from helpers.fake_metrics import make_epochs

from cnnbench.analysis.epochs import choose_scale, find_best_row, take_valid_rows

COSINE = [0.1 * (1 + math.cos(math.pi * epoch / 30)) / 2 + 1e-9 for epoch in range(1, 31)]
ONE_CYCLE = [
    0.001,
    0.003,
    0.0047,
    0.005,
    0.0047,
    0.0041,
    0.0032,
    0.0023,
    0.0014,
    0.0007,
    0.00017,
    2e-8,
]
STEPS = [0.1] * 30 + [0.01] * 30 + [0.001] * 30
FALLING = [1.2 / epoch**0.6 for epoch in range(1, 13)]  # to 0.27
MEMORISED = [1 / epoch**2 for epoch in range(1, 13)]  # to 0.007


def test_the_best_epoch_is_the_first_of_equals() -> None:
    rows = make_epochs([0.5] * 4, [0.6, 0.8, 0.8, 0.7])
    assert find_best_row(rows) is rows[1]


def test_nothing_is_best_on_the_test_set() -> None:
    assert find_best_row(make_epochs([0.5] * 2, [0.6, 0.8], part="test")) is None


@pytest.mark.parametrize(
    ("values", "log"),
    [
        (COSINE, False),
        (ONE_CYCLE, False),
        (STEPS, True),
        (FALLING, False),
        (MEMORISED, True),
        ([0.9, 0.0, 0.0], False),
    ],
    ids=["cosine", "one-cycle", "steps", "falling", "memorised", "zero"],
)
def test_an_axis_is_logarithmic_where_many_values_would_lie_at_its_foot(
    values: Sequence[float], log: bool
) -> None:
    assert choose_scale({"train": values}).log is log


def test_an_accuracy_is_never_on_a_logarithmic_axis() -> None:
    assert not choose_scale({"train": MEMORISED}, may_be_log=False).log


@pytest.mark.parametrize("first", [1e4, 1e30, -5])
def test_a_first_epoch_far_from_the_others_does_not_set_the_scale(first: float) -> None:
    scale = choose_scale({"train": [first, 2.0, 1.5, 1.2, 1.0], "test": [1.9, 1.8, 1.4, 1.2, 1.1]})
    assert (scale.low, scale.high, scale.log) == (1.0, 2.0, False)


def test_what_is_left_without_the_first_epoch_may_be_logarithmic() -> None:
    scale = choose_scale({"train": [1e30, *MEMORISED]})
    assert (scale.low, scale.high, scale.log) == (MEMORISED[-1], 1.0, True)


@pytest.mark.parametrize(
    "losses",
    [[1e4, 2.0, 1.5, 1.2], [4.0, 2.0, 1.5, 1.2, 1.0], [3.0, 1.0, 1.0, 1.0, 1.0], MEMORISED],
)
def test_all_epochs_are_shown_where_few_or_near_or_alike(losses: Sequence[float]) -> None:
    scale = choose_scale({"train": losses})
    assert (scale.low, scale.high) == (min(losses), max(losses))


@pytest.mark.parametrize("value", [0.95, 0.0, -3.0])
def test_a_constant_is_in_the_middle(value: float) -> None:
    assert choose_scale({"lr": [value] * 3}).position(value) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("losses", "middle"), [([3.0, 2.0, 1.0], 2.0), ([100.0, 1.0, 1.0, 1.0], 10.0)]
)
def test_positions_and_values_are_each_others_inverse(
    losses: Sequence[float], middle: float
) -> None:
    scale = choose_scale({"train": losses})
    assert scale.at(0.5) == pytest.approx(middle)
    assert [scale.position(scale.at(where)) for where in (-0.1, 0, 0.7, 1, 1.1)] == pytest.approx(
        [-0.1, 0, 0.7, 1, 1.1]
    )


def test_what_a_logarithmic_axis_cannot_show_is_below_it() -> None:
    scale = choose_scale({"train": [-1e9, *MEMORISED]})
    assert (scale.log, scale.position(-1e9), scale.position(0.0)) == (True, -math.inf, -math.inf)


@pytest.mark.parametrize("losses", [[9e299, 1e-300, 1e-300, 1e-300], [9e299, -9e299]])
def test_what_a_hostile_checkpoint_may_say_has_a_scale(losses: Sequence[float]) -> None:
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
def test_rows_are_sound_up_to_the_first_with_what_no_epoch_has(damage: dict[str, float]) -> None:
    rows = make_epochs([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    rows[1].update(damage)
    assert take_valid_rows(rows) == rows[:1]


def test_rows_without_the_figures_of_an_epoch_are_not_sound() -> None:
    assert take_valid_rows([{"epoch": 1.0, "train_loss": 2.0}]) == []
