"""confusion.png: which class is taken for which."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnbench.analysis.format import truncate
from cnnbench.reports.figures import draw_figure

__all__ = ["draw_confusion"]

MAX_NUMBERED = 20  # classes, above which numbers could not be read
MAX_NAMED = 100
FEW = {"size": 9, "rotation": 45, "ha": "right", "rotation_mode": "anchor"}
MANY = {"size": 5, "rotation": 90}


def draw_confusion(
    path: Path, confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str, note: str
) -> None:
    """Draw counts (K x K, rows true, columns predicted) as a PNG; colors are shares of the row."""
    from matplotlib.colors import PowerNorm

    counts, count = np.array(confusion), len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    is_small = count <= MAX_NUMBERED
    side = 3.7 + 0.35 * min(count, MAX_NUMBERED) + 0.05 * min(count, MAX_NAMED)
    with draw_figure(path, title, (side + 0.5, side), note) as figure:
        axes = figure.subplots()
        # small shares are what is looked for, so they get more of the scale
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.02)
        axes.set(xlabel="predicted", ylabel="true")
        names = [truncate(name, 24) for name in classes]
        if count <= MAX_NAMED:
            style = FEW if is_small else MANY
            axes.set_yticks(range(count), names, size=style["size"])
            axes.set_xticks(range(count), names, **style)
        for (row, column), number in np.ndenumerate(counts):
            if is_small and number:
                color = "white" if shares[row, column] > 0.4 else "black"
                text = f"{number:,}"
                axes.text(column, row, text, ha="center", va="center", color=color, size=8)
