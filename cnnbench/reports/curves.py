"""curves.png: loss and accuracy over the epochs."""

from collections.abc import Mapping, Sequence
from typing import BinaryIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["draw"]

_STYLES = {"train": ("#0072b2", "o", "-"), "validation": ("#d55e00", "s", "--"), "test": ("#009e73", "^", "-.")}


def draw(rows: Sequence[Mapping[str, float]], title: str, file: BinaryIO) -> None:
    """Draw the rows of metrics.csv, one per epoch, as a PNG into `file`."""
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    epochs = [row["epoch"] for row in rows]
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, (colour, marker, line) in _STYLES.items():
            name = f"{part}_{quantity}"
            if name in rows[0]:
                values = [row[name] for row in rows]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=4, linestyle=line, label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(file, format="png")
