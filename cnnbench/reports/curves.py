"""curves.png: loss and accuracy over the epochs."""

import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cnnbench.runs.directory import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Curves", "draw"]

_STYLES = {"train": ("#0072b2", "o", "-"), "validation": ("#d55e00", "s", "--"), "test": ("#009e73", "^", "-.")}
_SHARE = 0.1  # of a run's time that drawing may take


class Curves:
    """The picture of a run that goes on: redrawn after each epoch, less often where epochs are very short."""

    def __init__(self, path: Path, title: str) -> None:
        self.path = path
        self.title = title
        self.due_at = 0.0

    def update(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Draw the rows so far, if it is time."""
        began = time.perf_counter()
        if began >= self.due_at:
            self.draw(rows)
            ended = time.perf_counter()
            self.due_at = ended + (ended - began) / _SHARE

    def draw(self, rows: Sequence[Mapping[str, float]]) -> None:
        write_atomically(self.path, lambda file: draw(rows, self.title, file))


def draw(rows: Sequence[Mapping[str, float]], title: str, file: BinaryIO) -> None:
    """Draw the rows of metrics.csv, one per epoch, as a PNG into `file`."""
    figure = _empty_figure()
    figure.suptitle(title, fontsize=11, parse_math=False)  # a folder may be called by dollars
    epochs = [row["epoch"] for row in rows]
    for axes, quantity in zip(figure.axes, ("loss", "accuracy"), strict=True):
        for line in axes.get_lines():
            line.remove()  # of the picture before
        for part, (colour, marker, style) in _STYLES.items():
            name = f"{part}_{quantity}"
            if name in rows[0]:
                values = [row[name] for row in rows]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=4, linestyle=style, label=part)
        axes.relim()
        axes.legend(frameon=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        figure.savefig(file, format="png")


@cache
def _empty_figure() -> "Figure":
    """Two axes side by side, made once: ticks and their labels take half of the time of a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # 0.7 s that the first step need not wait for
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), dpi=100)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.14, top=0.9, wspace=0.2)
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    return figure
