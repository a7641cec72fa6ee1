"""Curves as text."""

import math

import pytest
from helpers.fake_metrics import make_epochs

from cnnbench.reports.terminal_plot import plot

FOUR = make_epochs([0.1, 0.5, 0.7, 0.8], [0.3, 0.5, 0.6, 0.55])

BRAILLE = """\
       accuracy                      loss
0.8000┤                  ⢀⡠⠤⠒⠉   1.9┤⠑⡄
      │              ⣀⠤⠒⠉⠁          │ ⠈⢢
      │           ⢀⠤⠊⢀ ⡀            │⡀  ⠑⡄
      │         ⡠⣒⠁⠒ ⠁ ⠈ ⠉ ⠒ ⠤      │⠈ ⠤ ⠈⠢⡀
      │      ⡠⡔⠋                    │    ⠑ ⣑⢄
      │    ⠔⢀⠎                      │       ⠈⠢⣀⣀
      │⢀ ⠊ ⡠⠃                       │          ⠑⠢⣑ ⠤ ⡀ ⢀ ⣀ ⠤ ⠔
      │⠁ ⢀⠔⠁                        │             ⠉⠢⢄⠈ ⠁
      │ ⢠⠊                          │                ⠉⠒⠤⢄⣀
0.1000┤⡰⠁                        1.2┤                     ⠉⠒⠢⠤⣀
      └───────────────▲───────      └─────────────────▲────────
       1        epoch        4       1         epoch          4
⠒⠒⠒ train
⠒ ⠒ validation
▲ best: epoch 3, validation accuracy 0.6000"""

ASCII = """\
       accuracy                      loss
0.8000+                   ....   1.9+.
      |              .....          | ..
      |           ...               |   ..
      |         .. ooooooooooo      |ooo  .
      |      o88ooo                 |   ooo..
      |  ooo8.                      |      oo88ooo
      |oo  .                        |          ...ooooooooooooo
      |   .                         |             ...
      | ..                          |                ......
0.1000+.                         1.2+                      ....
      +---------------^-------      +-----------------^--------
       1        epoch        4       1         epoch          4
. train
o validation
8 both
^ best: epoch 3, validation accuracy 0.6000"""

ONE_EPOCH = """\
       accuracy                      loss
0.6000+o                         1.5+.
      |                             |
      |                             |
      |                             |
      |                             |
      |                             |
      |                             |
      |                             |
      |                             |
0.5000+.                         1.4+o
      +^----------------------      +^-------------------------
       1        epoch                1          epoch
. train
o validation
8 both
^ best: epoch 1, validation accuracy 0.6000"""


@pytest.mark.parametrize(
    ("unicode", "text"), [(True, BRAILLE), (False, ASCII)], ids=["braille", "ascii"]
)
def test_plot_of_four_epochs(unicode: bool, text: str) -> None:
    assert plot(FOUR, 63, unicode) == text


def test_plot_of_one_epoch_uses_letters() -> None:
    assert plot(make_epochs([0.5], [0.6]), 63, unicode=True) == ONE_EPOCH


def test_plot_without_validation_set_marks_no_best_epoch() -> None:
    text = plot(make_epochs([0.1, 0.5], [0.3, 0.4], part="test"), 80, unicode=True)
    assert text.splitlines()[-1] == "⠒⠒⠒ train   ⠒ ⠒ test"
    assert "▲" not in text


def test_constant_values_are_a_line_in_the_middle() -> None:
    lines = plot(make_epochs([0.5] * 3, [0.5] * 3), 63, unicode=False).splitlines()
    assert [number for number, line in enumerate(lines[1:11]) if "8888" in line] == [4]
    assert (lines[1].split()[0], lines[10].split()[0]) == ("0.7500+", "0.2500+")


@pytest.mark.parametrize("columns", [20, 28, 62, 63, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_chart_lines_fit_the_terminal(columns: int, unicode: bool) -> None:
    text = plot(make_epochs([0.1] * 999 + [0.9], [0.2] * 1000), columns, unicode)
    charts = [line for line in text.splitlines() if "train" not in line and "best" not in line]
    assert max(map(len, charts)) <= max(columns, 28)


def test_narrow_terminal_shows_loss_below_accuracy() -> None:
    lines = [line.strip() for line in plot(FOUR, 50, unicode=True).splitlines()]
    assert (lines.index("accuracy"), lines.index("loss")) == (0, 13)


@pytest.mark.parametrize(("columns", "as_wide_as"), [(10, 28), (500, 123)])
def test_chart_width_has_minimum_and_maximum(columns: int, as_wide_as: int) -> None:
    assert plot(FOUR, columns, unicode=True) == plot(FOUR, as_wide_as, unicode=True)


def test_curve_of_thousand_epochs_has_no_gap() -> None:
    rising = [epoch / 1000 for epoch in range(1, 1001)]
    text = plot(make_epochs(rising, [0.0] * 1000), 63, unicode=False)
    lines = [line[7:30] for line in text.splitlines()[1:11]]
    assert [any(line[column] in ".8" for line in lines) for column in range(23)] == [True] * 23


def test_heading_notes_first_epoch_outside_the_scale() -> None:
    losses = [1e4, 2.0, 1.5, 1.2, 1.0], [2.0, 1.9, 1.5, 1.2, 1.1]
    text = plot(
        make_epochs([0.1, 0.97, 0.98, 0.985, 0.99], [0.97] * 5, losses=losses), 80, unicode=True
    )
    assert "accuracy (epoch 1 below)" in text
    assert "loss (epoch 1 above)" in text
    assert "2┤" in text.splitlines()[1]


def test_curve_starts_after_first_epoch_outside_the_scale() -> None:
    losses = [1e30, 2.0, 1.5, 1.2, 1.0]
    text = plot(make_epochs([0.5] * 5, [0.5] * 5, losses=(losses, losses)), 63, unicode=False)
    # the second epoch is a quarter of 28 columns from the left
    assert text.splitlines()[1].endswith(" 2+       8")


def test_heading_notes_log_scale() -> None:
    memorized = [1 / epoch**2 for epoch in range(1, 13)]
    rows = make_epochs([0.5] * 12, [0.5] * 12, losses=(memorized, memorized))
    assert plot(rows, 80, unicode=True).splitlines()[0].endswith("loss (log scale)")


def test_accuracy_is_always_on_a_linear_scale() -> None:
    accuracies = [0.001, 0.002, 0.004, 0.9]
    assert plot(make_epochs(accuracies, accuracies), 80, unicode=True).split()[:2] == [
        "accuracy",
        "loss",
    ]


def test_point_height_is_proportional_to_value() -> None:
    accuracies = [0.0, 0.25, 0.5, 0.75, 1.0]
    rows = make_epochs(accuracies, [0.0] * 5, part="test")
    train = [line[7:30] for line in plot(rows, 63, unicode=False).splitlines()[1:11]]
    highest = [
        next(number for number, line in enumerate(train) if line[column] in ".8")
        for column in (0, 6, 11, 17, 22)
    ]
    assert highest == [round((1 - accuracy) * 9) for accuracy in accuracies]


def test_extreme_losses_fit_into_a_chart() -> None:
    rows = make_epochs([0.1, 0.2], [0.1, 0.2], losses=([9e299, 1e-300], [-9e299, math.pi]))
    assert max(map(len, plot(rows, 80, unicode=True).splitlines())) <= 80
