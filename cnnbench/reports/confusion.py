"""confusion.png: which class is taken for which."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

MOST_NUMBERED = 20  # classes, above which numbers could not be read
MOST_NAMED = 100
LONGEST = 24  # letters of a name


def draw(confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str, file: BinaryIO) -> None:
    """Draw counts (K x K, rows true, columns predicted) as a PNG into `file`; colours are shares of the row."""
    import numpy as np
    from matplotlib import rc_context  # most of a second that other commands can do without
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = np.array(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    count = len(classes)
    side = 3.6 + 0.4 * min(count, MOST_NUMBERED) + 0.1 * max(0, min(count, MOST_NAMED) - MOST_NUMBERED)
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():  # a name with dollars is no formula
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # nor is every script in the font
        figure = Figure(figsize=(side + 0.8, side), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        # small shares are what is looked for, so they get more of the scale
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.02)
        axes.set(xlabel="predicted", ylabel="true")
        figure.suptitle(title, fontsize=11)
        if count <= MOST_NAMED:
            _name(axes, classes)
        if count <= MOST_NUMBERED:
            for (row, column), number in np.ndenumerate(counts):
                if number:
                    colour = "white" if shares[row, column] > 0.4 else "black"
                    axes.text(column, row, f"{number:,}", ha="center", va="center", color=colour, fontsize=8)
        figure.savefig(file, format="png")


def _name(axes: "Axes", classes: Sequence[str]) -> None:
    few = len(classes) <= MOST_NUMBERED
    size = 9 if few else 5
    names = [each if len(each) <= LONGEST else f"{each[: LONGEST - 1]}…" for each in classes]
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xticks(range(len(names)), names, fontsize=size, rotation=45 if few else 90)
    if few:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
