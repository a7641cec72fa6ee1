"""confusion.png: the confusion matrix of a network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnbench.analysis.format import truncate
from cnnbench.reports.figures import draw_figure

__all__ = ["draw_confusion"]

# with more classes, the counts and the names of classes could not be read
MAX_NUMBERED, MAX_NAMED = 20, 100
STYLE_OF_FEW = {"size": 9, "rotation": 45, "ha": "right", "rotation_mode": "anchor"}
STYLE_OF_MANY = {"size": 5, "rotation": 90}


def draw_confusion(
    path: Path, confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str, note: str
) -> None:
    """Draw a confusion matrix as a PNG into `path`.

    `confusion` has the counts of K x K classes: rows are true, columns predicted. The color of a
    cell is its share of the row. `note` stands below the picture.
    """
    from matplotlib.colors import PowerNorm

    counts, count = np.array(confusion), len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    is_small = count <= MAX_NUMBERED
    side = 3.7 + 0.35 * min(count, MAX_NUMBERED) + 0.05 * min(count, MAX_NAMED)
    with draw_figure(path, title, (side + 0.5, side), note) as figure:
        axes = figure.subplots()
        # readers look for small shares, so these get more of the scale
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.02)
        axes.set(xlabel="predicted", ylabel="true")
        names = [truncate(name, 24) for name in classes]
        if count <= MAX_NAMED:
            style = STYLE_OF_FEW if is_small else STYLE_OF_MANY
            axes.set_yticks(range(count), names, size=style["size"])
            axes.set_xticks(range(count), names, **style)
        for (row, column), number in np.ndenumerate(counts):
            if is_small and number:
                color = "white" if shares[row, column] > 0.4 else "black"
                text = f"{number:,}"
                axes.text(column, row, text, ha="center", va="center", color=color, size=8)
