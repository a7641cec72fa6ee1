"""curves.png: loss, accuracy and learning rate over the epochs."""

import math
import time
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cnnbench.analysis.epochs import Lines, Rows, choose_scale, find_best_row, metric_lines
from cnnbench.analysis.fonts import use_fallback_fonts
from cnnbench.runs.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curves", "draw", "render"]

_STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "#0072b2", "marker": "o", "linestyle": "-"},
    "validation": {"color": "#d55e00", "marker": "s", "linestyle": "--"},
    "test": {"color": "#009e73", "marker": "^", "linestyle": "-."},
    "lr": {"color": "#333333", "marker": ".", "linestyle": "-"},
}
_BEST: dict[str, Any] = {"color": "#333333", "linewidth": 1, "linestyle": ":"}
_RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgewidth": 1.5,
}
_HEADINGS = {"loss": "loss", "accuracy": "accuracy", "lr": "learning rate"}
_MOST_MARKERS = 20  # on a line
_SHARE = 0.1  # of a run's time that drawing may take


class Curves:
    """The picture of a run that goes on: redrawn after each epoch, less often where epochs are very short."""

    def __init__(self, path: Path, title: str) -> None:
        self.path = path
        self.title = title
        self.due_at = 0.0

    def update(self, rows: Rows) -> None:
        """Draw the rows so far, if it is time."""
        began = time.perf_counter()
        if began >= self.due_at:
            self.draw(rows, sync=False)
            ended = time.perf_counter()
            self.due_at = ended + (ended - began) / _SHARE

    def draw(self, rows: Rows, test_accuracy: float | None = None, *, sync: bool = True) -> None:
        """Draw the rows, under a title with the test accuracy that the run ended with, once it is known."""
        title = (
            self.title
            if test_accuracy is None
            else f"{self.title}: test accuracy {test_accuracy:.4f}"
        )
        write_atomically(self.path, lambda file: draw(rows, title, file), sync=sync)


def draw(rows: Rows, title: str, file: BinaryIO) -> None:
    """Draw the rows as a PNG into `file`: the same bytes for the same rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        # to compress as little as that takes a ninth less time, for a file an eighth larger
        render(rows, title).savefig(
            file, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1}
        )


def render(rows: Rows, title: str) -> "Figure":
    """The figure of the rows, which the next call draws on."""
    figure = _empty_figure()
    for artist in (
        *figure.legends,
        *(each for axes in figure.axes for each in (*axes.lines, *axes.texts)),
    ):
        artist.remove()  # of the picture before
    figure.suptitle(title, fontsize=12, parse_math=False)  # a folder may be called by dollars
    loss, accuracy, rate = figure.axes
    _plot(loss, metric_lines(rows, "loss"), "loss")
    _plot(accuracy, metric_lines(rows, "accuracy"), "accuracy")
    _plot(rate, {"lr": [row["lr"] for row in rows]}, "lr")
    named, best = [*accuracy.get_lines()], find_best_row(rows)
    if best is not None:
        for axes in figure.axes:
            axes.axvline(best["epoch"], zorder=1, **_BEST)
        words = f"best: epoch {best['epoch']:.0f}, validation accuracy {best['validation_accuracy']:.4f}"
        named += accuracy.plot(
            [best["epoch"]], [best["validation_accuracy"]], label=words, **_BEST, **_RING
        )
    figure.legend(
        handles=named,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.95),
        ncols=len(named),
        frameon=False,
    )
    if not title.isascii():
        use_fallback_fonts(figure)
    return figure


def _plot(axes: "Axes", lines: Lines, quantity: str) -> None:
    """Plot the values of each part, and say which of them lie beyond the axis."""
    num_epochs = len(next(iter(lines.values())))
    every = math.ceil(num_epochs / _MOST_MARKERS)
    for part, values in lines.items():
        axes.plot(
            range(1, num_epochs + 1),
            values,
            label=part,
            markevery=every,
            markersize=5,
            **_STYLES[part],
        )
    scale = choose_scale(lines, may_be_log=quantity != "accuracy")
    if axes.get_yscale() != ("log" if scale.log else "linear"):
        _set_scale(axes, quantity, scale.log)
    bottom, top = scale.at(-0.06), scale.at(1.06)
    beside = max(0.04 * (num_epochs - 1), 0.3)
    axes.set(xlim=(max(1 - beside, 0.5), num_epochs + beside), ylim=(bottom, top))
    beyond = {part: values[0] for part, values in lines.items() if not bottom <= values[0] <= top}
    if beyond:
        words = ", ".join(f"{part} {value:.4g}" for part, value in beyond.items())
        if max(beyond.values()) > top:
            _note(axes, f"▲ epoch 1: {words}", 0.97, "top")
        else:
            _note(axes, f"▼ epoch 1: {words}", 0.03, "bottom")
    elif quantity == "lr" and min(lines["lr"]) == max(lines["lr"]):
        _note(axes, f"{lines['lr'][0]:g}", 0.52, "bottom")


def _note(axes: "Axes", words: str, y: float, vertical: str) -> None:
    """Words at the right edge."""
    axes.text(0.98, y, words, fontsize=9, ha="right", va=vertical, transform=axes.transAxes)


def _set_scale(axes: "Axes", quantity: str, log: bool) -> None:
    from matplotlib.ticker import (
        LogLocator,
        MaxNLocator,
        NullLocator,
        ScalarFormatter,
        StrMethodFormatter,
    )

    axes.set_yscale("log" if log else "linear")
    axes.set_title(_HEADINGS[quantity] + (" (log scale)" if log else ""), fontsize=11, y=1.01)
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1, 3)) if log else MaxNLocator(6, steps=[1, 2, 5, 10])
    )
    axes.yaxis.set_major_formatter(
        StrMethodFormatter("{x:g}") if log else ScalarFormatter(useOffset=False)
    )
    axes.yaxis.set_minor_locator(NullLocator())


@cache
def _empty_figure() -> "Figure":
    """Axes side by side, made once: ticks and their labels take half of the time of a picture."""
    from matplotlib.backends.backend_agg import (
        FigureCanvasAgg,
    )  # 0.7 s that the first step need not wait for
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 3.8), dpi=150)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.06, right=0.985, bottom=0.13, top=0.79, wspace=0.24)
    for axes, quantity in zip(
        figure.subplots(1, 3, width_ratios=(3, 3, 2)), _HEADINGS, strict=True
    ):
        axes.set_xlabel("end of epoch" if quantity == "lr" else "epoch")
        axes.xaxis.set_label_coords(
            0.5, -0.1
        )  # where it would be; to find that out takes time for each picture
        axes.xaxis.set_major_locator(
            MaxNLocator(7, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
        )
        axes.grid(alpha=0.3)
        _set_scale(axes, quantity, log=False)
    return figure
