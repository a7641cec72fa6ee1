"""The picture of a run."""

import io
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fake_metrics import Row, make_epochs
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from cnnbench.trackers import curves
from cnnbench.trackers.curves import Curves, draw_curves, write_curves

DRAW_ALONE = """
import sys
from cnnbench.trackers.curves import write_curves
write_curves(eval(sys.argv[1]), "of three epochs", sys.stdout.buffer)
"""
MEMORIZED = [1 / epoch**2 for epoch in range(1, 13)]


def some(number: int, part: str = "validation") -> list[Row]:
    """Return a number of epochs, with the best one in the middle."""
    values = [epoch / (2 * number) for epoch in range(1, number + 1)]
    return make_epochs(values, [0.5 - abs(value - 0.25) for value in values], part=part)


WILD = make_epochs(
    *(
        [0.1, *[0.9 + epoch / 1000 for epoch in range(11)]],
        [0.1, *[0.9 + epoch / 1000 for epoch in range(11)]],
    ),
    losses=(MEMORIZED, [1e9, *MEMORIZED[1:]]),
    lr=[0.1] * 4 + [0.01] * 4 + [0.0001] * 4,
)


def panels(rows: list[Row]) -> tuple[Axes, Axes, Axes]:
    loss, accuracy, rate = draw_curves(rows, "").axes
    return loss, accuracy, rate


def curve(axes: Axes, part: str) -> Line2D:
    (line,) = (line for line in axes.get_lines() if line.get_label() == part)
    return line


def legend(figure: Figure) -> list[str]:
    (only,) = figure.legends
    return [text.get_text() for text in only.get_texts()]


def notes(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def shown_ticks(axes: Axes) -> list[float]:
    low, high = axes.get_xlim()
    return [float(tick) for tick in axes.get_xticks() if low <= tick <= high]


@pytest.mark.parametrize("before", [some(40), WILD], ids=["longer", "wild"])
def test_picture_does_not_depend_on_previous_picture(before: list[Row]) -> None:
    after = some(3, "test")
    alone = subprocess.run(
        [sys.executable, "-c", DRAW_ALONE, repr(after)],
        capture_output=True,
        check=True,
        timeout=120,
    ).stdout
    after_another = io.BytesIO()
    write_curves(before, "of more epochs", io.BytesIO())
    write_curves(after, "of three epochs", after_another)
    assert after_another.getvalue() == alone


def test_picture_has_no_metadata() -> None:
    file = io.BytesIO()
    write_curves(some(3), "", file)
    with Image.open(file) as image:
        assert {key for key in image.info if key != "dpi"} == set()


@pytest.mark.parametrize("part", ["validation", "test"])
def test_train_and_eval_curves_are_plotted_and_named(part: str) -> None:
    rows = some(4, part)
    figure = draw_curves(rows, "")
    for axes, quantity in zip(figure.axes, ("loss", "accuracy"), strict=False):
        for name in ("train", part):
            assert list(curve(axes, name).get_ydata()) == [
                row[f"{name}_{quantity}"] for row in rows
            ]
    assert legend(figure)[:2] == ["train", part]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_curves_differ_without_color(part: str) -> None:
    train, other = (curve(draw_curves(some(4, part), "").axes[0], name) for name in ("train", part))
    assert train.get_linestyle() != other.get_linestyle()
    assert train.get_marker() != other.get_marker()


def test_best_epoch_is_marked_and_named_in_legend() -> None:
    rows = some(12)
    figure = draw_curves(rows, "")
    entry = legend(figure)[2]
    assert entry == "best: epoch 6, validation accuracy 0.5000"
    ring = curve(figure.axes[1], entry)
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([6], [0.5])
    for axes in figure.axes:
        assert [6, 6] in [list(line.get_xdata()) for line in axes.get_lines()]


def test_rows_of_steps_are_a_thin_line_that_the_axes_show() -> None:
    steps = [
        {"epoch": step / 2, "lr": 0.1, "train_loss": loss, "train_accuracy": 0.5}
        for step, loss in enumerate((9.0, 4.0, math.nan, 2.0), start=1)
    ]
    figure = draw_curves(some(2), "", steps)
    loss, _, rate = figure.axes
    line = curve(loss, "train, within epochs")
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.5, 1.0, 2.0], [9.0, 4.0, 2.0])
    assert loss.get_ylim()[1] > 9.0
    assert loss.get_xlim()[0] == 0.0
    assert line.get_linewidth() < curve(loss, "train").get_linewidth()
    assert len(rate.get_lines()) == 2 + 1  # and that of the best epoch


def test_rows_of_steps_are_drawn_before_the_first_epoch_ends() -> None:
    steps = [
        {"epoch": step / 4, "lr": 0.1, "train_loss": 4.0 - step, "train_accuracy": 0.5}
        for step in (1, 2)
    ]
    figure = draw_curves([], "", steps)
    line = curve(figure.axes[0], "train, within epochs")
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.25, 0.5], [3.0, 2.0])
    assert legend(figure) == ["train, within epochs"]
    assert notes(figure.axes[2]) == ["0.1"]


def test_axes_show_the_epoch_under_way() -> None:
    steps = [{"epoch": 2.25, "lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5}]
    assert panels(some(2))[0].get_xlim()[1] < 2.5
    assert draw_curves(some(2), "", steps).axes[0].get_xlim()[1] > 3


def test_picture_without_finite_rows_is_empty() -> None:
    steps = [{"epoch": 0.5, "lr": 0.1, "train_loss": math.nan, "train_accuracy": 0.5}]
    loss, accuracy, _ = draw_curves([], "", steps).axes
    assert (len(loss.get_lines()), len(accuracy.get_lines())) == (0, 1)
    write_curves([], "", io.BytesIO())


def test_no_best_epoch_without_validation_set() -> None:
    figure = draw_curves(some(12, "test"), "")
    assert legend(figure) == ["train", "test"]
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 2, 1]


def test_learning_rate_is_plotted() -> None:
    rates = [0.3, 0.2, 0.1]
    rate = panels(make_epochs([0.1] * 3, [0.1] * 3, lr=rates))[2]
    assert list(curve(rate, "lr").get_ydata()) == rates


def test_constant_learning_rate_is_noted() -> None:
    assert notes(panels(make_epochs([0.1] * 3, [0.1] * 3, lr=[0.95] * 3))[2]) == ["0.95"]


def test_loss_and_rate_have_log_scale_over_decades() -> None:
    axes = panels(make_epochs(MEMORIZED, MEMORIZED, losses=(MEMORIZED, MEMORIZED), lr=MEMORIZED))
    assert [panel.get_yscale() for panel in axes] == ["log", "linear", "log"]
    assert [panel.get_title() for panel in axes] == [
        "loss (log scale)",
        "accuracy",
        "learning rate (log scale)",
    ]


def test_linear_scale_after_log_scale() -> None:
    draw_curves(WILD, "")
    axes = panels(some(3))
    assert [panel.get_yscale() for panel in axes] == ["linear"] * 3
    assert [panel.get_title() for panel in axes] == ["loss", "accuracy", "learning rate"]


def test_first_epoch_beyond_the_axis_is_noted() -> None:
    losses = [1e4, 2.0, 1.5, 1.2, 1.0], [2.0, 1.9, 1.5, 1.2, 1.1]
    loss, accuracy, _ = panels(
        make_epochs([0.1, 0.97, 0.98, 0.985, 0.99], [0.97] * 5, losses=losses)
    )
    assert (notes(loss), notes(accuracy)) == (["▲ epoch 1: train 1e+04"], ["▼ epoch 1: train 0.1"])
    assert loss.get_ylim()[1] < 3
    assert accuracy.get_ylim()[0] > 0.9


def test_single_epoch_has_markers_and_tick() -> None:
    for axes in panels(some(1)):
        assert shown_ticks(axes) == [1]
        assert all(line.get_marker() not in ("", "None", None) for line in axes.get_lines()[:1])


@pytest.mark.parametrize("number", [2, 7, 12, 300, 1000])
def test_epoch_ticks_are_whole_numbers_from_1(number: int) -> None:
    for axes in panels(some(number)):
        ticks = shown_ticks(axes)
        assert ticks == [round(tick) for tick in ticks]
        assert 1 <= min(ticks) < max(ticks) <= number


@pytest.mark.parametrize("number", [20, 21, 1000])
def test_curve_has_limited_number_of_markers(number: int) -> None:
    (every,) = {
        curve(panels(some(number))[0], name).get_markevery() for name in ("train", "validation")
    }
    assert 10 <= math.ceil(number / every) <= 20


def test_accuracies_close_to_1_have_distinct_tick_labels() -> None:
    figure = draw_curves(make_epochs([0.99912, 0.99931, 0.99946], [0.99921, 0.99932, 0.99935]), "")
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert len(labels) == len(set(labels)) > 3
    assert all(label.startswith("0.999") for label in labels)
    assert figure.axes[1].yaxis.get_offset_text().get_text() == ""


def test_extreme_values_can_be_drawn() -> None:
    losses = [9e299, 1e-300, 1e-300, -0.0], [-9e299, 0.0, 1.0, 1.0]
    write_curves(
        make_epochs(
            [9e299, 0.0, 1.0, -1.0], [0.1] * 4, losses=losses, lr=[1e-300, 9e299, 1e-300, 1e-300]
        ),
        "",
        io.BytesIO(),
    )


@pytest.fixture
def titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of titles of the pictures that the test draws. Drawing takes no time."""
    drawn: list[str] = []
    monkeypatch.setattr(curves, "write_curves", lambda rows, title, *_: drawn.append(title))
    return drawn


def test_title_has_final_test_accuracy(titles: list[str], tmp_path: Path) -> None:
    picture = Curves(tmp_path / "curves.png", "lenet on MNIST")
    picture.draw(some(2))
    picture.draw(some(2), 0.98765)
    assert titles == ["lenet on MNIST", "lenet on MNIST: test accuracy 0.9877"]


def test_only_the_last_picture_is_synced_to_disk(
    titles: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    picture = Curves(tmp_path / "curves.png", "")
    picture.update(some(2))
    assert (titles, synced) == ([""], [])
    picture.draw(some(2), 0.5)
    assert len(synced) == 2  # the file and its folder


def test_drawing_takes_at_most_a_twentieth_of_the_time(
    titles: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # drawing takes from 100 to 101, from 121 to 123 and from 163 to 164; the others are too early
    clock: Iterator[float] = iter([100.0, 101.0, 120.9, 121.0, 123.0, 162.9, 163.0, 164.0])
    monkeypatch.setattr("cnnbench.trackers.curves.time.perf_counter", lambda: next(clock))
    picture = Curves(tmp_path / "curves.png", "")
    drawn_after = []
    for _ in range(5):
        picture.update(some(2))
        drawn_after.append(len(titles))
    assert drawn_after == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    "title", ["mlp on $x$, 28 px", r"mlp on $\nothing{, 28 px", "mlp on 照片, 28 px"]
)
def test_title_may_have_any_characters(title: str) -> None:
    write_curves(some(2), title, file := io.BytesIO())
    assert file.getvalue().startswith(b"\x89PNG")


def test_best_epoch_is_that_of_the_lowest_loss_if_it_is_chosen_by_the_loss() -> None:
    rows = some(3)
    rows[0]["validation_loss"] = 0.001
    rows[2]["validation_accuracy"] = 0.999
    labels = [
        draw_curves(rows, "", select_by=figure).legends[0].get_texts()[-1].get_text()
        for figure in ("accuracy", "loss")
    ]
    assert labels[0].startswith("best: epoch 3, validation accuracy 0.999")
    assert labels[1].startswith("best: epoch 1, validation accuracy ")
