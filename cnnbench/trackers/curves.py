"""curves.png: loss, accuracy and learning rate over the epochs."""

import math
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cnnbench.analysis.epochs import Lines, Rows, choose_scale, find_best_row, metric_lines
from cnnbench.analysis.fonts import use_fallback_fonts
from cnnbench.runs.atomic_files import write_atomically
from cnnbench.runs.machine import usable_cpus
from cnnbench.trackers.drawing_process import DrawingProcess

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Curves",
    "draw_curves",
    "empty_figure",
    "start_drawing_process",
    "write_curves",
]

STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": "#0072b2", "marker": "o", "linestyle": "-"},
    "validation": {"color": "#d55e00", "marker": "s", "linestyle": "--"},
    "test": {"color": "#009e73", "marker": "^", "linestyle": "-."},
    "lr": {"color": "#333333", "marker": ".", "linestyle": "-"},
}
STEP_LINE: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.6}
BEST_LINE: dict[str, Any] = {"color": "#333333", "linewidth": 1, "linestyle": ":"}
RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgewidth": 1.5,
}
HEADINGS = {"loss": "loss", "accuracy": "accuracy", "lr": "learning rate"}
MAX_MARKERS = 20  # markers of one curve
MAX_SHARE = 0.05  # share of a run's time that drawing may take

_drawing: DrawingProcess | None = None


class Curves:
    """The picture of a run, redrawn after each epoch, or less often if epochs are short."""

    def __init__(self, path: Path, title: str, select_by: str = "accuracy") -> None:
        self.path = path
        self.title = title
        self.select_by = select_by
        self.due_at = 0.0

    def update(self, rows: Rows, steps: Rows = ()) -> None:
        """Draw the rows so far, unless drawing has taken more than its share of the time."""
        began = time.perf_counter()
        if began >= self.due_at:
            self.draw(rows, steps=steps, sync=False)
            ended = time.perf_counter()
            self.due_at = ended + (ended - began) / MAX_SHARE

    def draw(
        self,
        rows: Rows,
        test_accuracy: float | None = None,
        *,
        steps: Rows = (),
        sync: bool = True,
    ) -> None:
        """Draw the rows, and those of steps.csv. The title has the final test accuracy, if any.

        Raises:
            OSError: the file cannot be written.
        """
        title = self.title
        if test_accuracy is not None:
            title += f": test accuracy {test_accuracy:.4f}"
        self.keep(lambda file: _write(file, rows, title, steps, self.select_by), sync)

    def keep(self, write: Callable[[BinaryIO], None], sync: bool) -> None:
        """Keep the picture that `write` writes into a file."""
        write_atomically(self.path, write, sync=sync)


def start_drawing_process() -> None:
    """Draw the pictures of this process in another one, if a processor is free for it.

    Call it before PyTorch is imported: later there is less time to gain.
    """
    global _drawing
    if "torch" in sys.modules or usable_cpus() < 2:
        return
    with suppress(OSError):
        _drawing = DrawingProcess()


def _write(file: BinaryIO, *picture: Any) -> None:
    """Write a picture into a file; `picture` has the other arguments of `write_curves`."""
    global _drawing
    drawn = None if _drawing is None else _drawing.draw(*picture)
    if drawn is not None:
        file.write(drawn)
        return
    _drawing = None
    rows, title, *others = picture
    write_curves(rows, title, file, *others)


def write_curves(
    rows: Rows, title: str, file: BinaryIO, steps: Rows = (), select_by: str = "accuracy"
) -> None:
    """Draw the rows as a PNG into `file`: the same bytes for the same rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        # level 1 saves a ninth of the time, and the file is an eighth larger
        compression = {"compress_level": 1}
        metadata = {"Software": None}
        draw_curves(rows, title, steps, select_by).savefig(
            file, format="png", metadata=metadata, pil_kwargs=compression
        )


def draw_curves(rows: Rows, title: str, steps: Rows = (), select_by: str = "accuracy") -> "Figure":
    """Return the figure of the rows of metrics.csv and, if there are any, of steps.csv.

    There may be no row of metrics.csv yet. `select_by` is the figure that chooses the best epoch,
    accuracy or loss. The next call draws on the same figure.
    """
    figure = empty_figure()
    for legend in list(figure.legends):
        legend.remove()
    for axes in figure.axes:
        for artist in (*axes.lines, *axes.texts):
            artist.remove()
    figure.suptitle(title, fontsize=12, parse_math=False)  # a folder's name may have dollar signs
    lines: dict[str, Lines] = {quantity: {} for quantity in HEADINGS}
    best = None
    if rows:
        lines = {quantity: metric_lines(rows, quantity) for quantity in ("loss", "accuracy")}
        lines["lr"] = {"lr": [row["lr"] for row in rows]}
        best = find_best_row(rows, select_by)
    for axes, quantity in zip(figure.axes, HEADINGS, strict=True):
        _plot(axes, lines[quantity], quantity, steps)
    accuracy = figure.axes[1]
    handles = [*accuracy.get_lines()]
    if best is not None:
        epoch, highest = best["epoch"], best["validation_accuracy"]
        for axes in figure.axes:
            axes.axvline(epoch, zorder=1, **BEST_LINE)
        label = f"best: epoch {epoch:.0f}, validation accuracy {highest:.4f}"
        handles += accuracy.plot([epoch], [highest], label=label, **BEST_LINE, **RING)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.95)}
    figure.legend(handles=handles, ncols=max(1, len(handles)), frameon=False, **place)
    if not title.isascii():
        use_fallback_fonts(figure)
    return figure


def _plot(axes: "Axes", lines: Lines, quantity: str, steps: Rows) -> None:
    """Plot the values of each part, and note values of the first epoch that the axis leaves out.

    `steps` are rows within the epochs, which become a thin line.
    """
    num_epochs = max(map(len, lines.values()), default=0)
    epochs = range(1, num_epochs + 1)
    every = math.ceil(num_epochs / MAX_MARKERS)
    for part, values in lines.items():
        axes.plot(epochs, values, label=part, markevery=every, markersize=5, **STYLES[part])
    column, part = ("lr", "lr") if quantity == "lr" else (f"train_{quantity}", "train")
    points = [(row["epoch"], row[column]) for row in steps if math.isfinite(row[column])]
    if points:
        within, values = zip(*points, strict=True)
        color = STYLES[part]["color"]
        axes.plot(within, values, label="train, within epochs", color=color, **STEP_LINE)
        lines = {**lines, "steps": values}
        num_epochs = max(num_epochs, math.ceil(within[-1]))  # one may be under way
    if not lines:
        return
    scale = choose_scale(lines, may_be_log=quantity != "accuracy")
    if axes.get_yscale() != ("log" if scale.log else "linear"):
        _set_scale(axes, quantity, scale.log)
    bottom, top = scale.at(-0.06), scale.at(1.06)
    margin = max(0.04 * (num_epochs - 1), 0.3)
    left = 0.0 if points else max(1 - margin, 0.5)
    axes.set(xlim=(left, num_epochs + margin), ylim=(bottom, top))
    beyond = {part: values[0] for part, values in lines.items() if not bottom <= values[0] <= top}
    if beyond:
        text = ", ".join(f"{part} {value:.4g}" for part, value in beyond.items())
        if max(beyond.values()) > top:
            _note(axes, f"▲ epoch 1: {text}", 0.97, "top")
        else:
            _note(axes, f"▼ epoch 1: {text}", 0.03, "bottom")
    elif quantity == "lr":
        rates = lines.get("lr") or lines["steps"]
        if min(rates) == max(rates):
            _note(axes, f"{rates[0]:g}", 0.52, "bottom")


def _note(axes: "Axes", text: str, y: float, vertical: str) -> None:
    """Write a text at the right edge."""
    axes.text(0.98, y, text, fontsize=9, ha="right", va=vertical, transform=axes.transAxes)


def _set_scale(axes: "Axes", quantity: str, is_log: bool) -> None:
    from matplotlib.ticker import (
        LogLocator,
        MaxNLocator,
        NullLocator,
        ScalarFormatter,
        StrMethodFormatter,
    )

    heading = HEADINGS[quantity]
    if is_log:
        axes.set_yscale("log")
        axes.set_title(f"{heading} (log scale)", fontsize=11, y=1.01)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        axes.set_yscale("linear")
        axes.set_title(heading, fontsize=11, y=1.01)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.yaxis.set_minor_locator(NullLocator())


@cache
def empty_figure() -> "Figure":
    """Return a figure with axes side by side.

    It is made once, since ticks and their labels take half of the time of a picture.
    """
    # these imports take 0.7 s, which the first step need not wait for
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 3.8), dpi=150)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.06, right=0.985, bottom=0.13, top=0.79, wspace=0.24)
    row = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    for axes, quantity in zip(row, HEADINGS, strict=True):
        axes.set_xlabel("end of epoch" if quantity == "lr" else "epoch")
        axes.xaxis.set_label_coords(0.5, -0.1)  # a fixed place saves the search for it
        locator = MaxNLocator(7, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
        axes.xaxis.set_major_locator(locator)
        axes.grid(alpha=0.3)
        _set_scale(axes, quantity, is_log=False)
    return figure
