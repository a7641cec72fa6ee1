"""Rows of pictures and histograms, drawn into figures."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from cnnbench.analysis.format import truncate
from cnnbench.reports.figures import GRAY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = [
    "MIN_COLUMNS",
    "STEP",
    "WIDTH",
    "ClassifiedImage",
    "Histogram",
    "count_maps",
    "make_histogram",
    "show_histograms",
    "show_maps",
    "show_row",
    "show_rows",
    "to_picture",
]

Array = npt.NDArray[Any]
Histogram = tuple[str, str, torch.Tensor, torch.Tensor]  # title, text below, counts, edges

WIDTH = 11.0  # inches, the width of a slide
STEP = 1.08  # distance from picture to picture in a row, in widths of a picture
MIN_COLUMNS, MAX_MAPS = 10, 16  # limits of a row of feature maps
MAX_BINS = 60


@dataclass(frozen=True)
class ClassifiedImage:
    """A test image, its true and its predicted class, and the probability of the prediction.

    `pixels` are uint8 (C, H, W). `index` is the number of the image in the test set.
    """

    index: int
    pixels: torch.Tensor
    true: str
    predicted: str
    probability: float

    @property
    def is_right(self) -> bool:
        return self.true == self.predicted

    @property
    def color(self) -> str:
        return "black" if self.is_right else "#b2182b"

    @property
    def verdict(self) -> str:
        """Return ``Shirt → Coat, 0.97`` in two lines or, if it is right, ``Coat, 0.97``."""
        true = "" if self.is_right else f"{truncate(self.true, 20)}\n→ "
        return f"{true}{truncate(self.predicted, 20)}, {self.probability:.2f}"

    @property
    def picture(self) -> Array:
        return to_picture(self.pixels.cpu().double() / 255)


def to_picture(values: torch.Tensor) -> Array:
    """Return three channels (3, H, W) as a color image (H, W, 3), others as their mean (H, W)."""
    picture = values.movedim(0, -1) if len(values) == 3 else values.mean(dim=0)
    return picture.numpy()


def show_row(
    axes: "Axes",
    pictures: Iterable[Array],
    labels: Sequence[str],
    columns: int,
    **scale: Any,
) -> "AxesImage":
    """Show pictures as squares side by side, with labels above, in a row for `columns` pictures.

    Return the last image. `scale` has arguments of `imshow`.
    """
    scale = {"cmap": "gray", "vmin": 0, "vmax": 1, **scale}
    for place, picture in enumerate(pictures):
        left = place * STEP
        image = axes.imshow(picture, extent=(left, left + 1, 1, 0), **scale)
    lefts = [place * STEP for place in range(len(labels))]
    axes.set_xticks(lefts, labels, size=8, ha="left")
    axes.tick_params(top=False, labeltop=True, bottom=False, labelbottom=False, pad=0)
    axes.set(xlim=(-0.01, columns * STEP), ylim=(1.01, -0.01), yticks=[], anchor="NW")
    axes.spines[:].set_visible(False)
    return image


def show_rows(
    figure: "Figure", pictures: Sequence[Array], labels: Sequence[str], columns: int, **scale: Any
) -> "tuple[Any, AxesImage]":
    """Show pictures in rows and set the height of the figure.

    Return the axes of the rows and the last image.
    """
    starts = range(0, len(pictures), columns)
    figure.set_figheight(0.8 + len(starts) * (WIDTH / columns + 0.4))
    rows = figure.subplots(len(starts), squeeze=False)[:, 0]
    for axes, start in zip(rows, starts, strict=True):
        part = slice(start, start + columns)
        last = show_row(axes, pictures[part], labels[part], columns, **scale)
    return rows, last


def count_maps(values: Array) -> int:
    """Return the number of pictures that show an output: maps (C, H, W), or units (F) in one."""
    return min(len(values), MAX_MAPS) if values.ndim == 3 else 1


def show_maps(axes: "Axes", values: Array) -> "AxesImage":
    """Show the maps (C, H, W) that vary most over the image, or units (F) as stripes."""
    scale = {"cmap": "viridis", "vmin": values.min(), "vmax": values.max()}
    if values.ndim == 1:
        axes.set(xticks=[], yticks=[])
        return axes.imshow(values[None], aspect="auto", **scale)
    spread = values.std(axis=(1, 2))
    channels = sorted(np.argsort(-spread, kind="stable")[:MAX_MAPS].tolist())
    labels = [str(channel) for channel in channels]
    return show_row(axes, values[channels], labels, max(MIN_COLUMNS, len(labels)), **scale)


def make_histogram(title: str, words: str, values: torch.Tensor) -> Histogram:
    """Count the finite values between edges, in fewer bins if there are few values.

    Mean and standard deviation stand in the text below, above `words`.
    """
    std, mean = torch.std_mean(values, correction=0)
    bins = max(10, min(MAX_BINS, math.isqrt(values.numel())))
    finite = values[values.isfinite()].cpu()  # counts on a GPU are not deterministic
    return title, f"mean {mean:.3g}, sd {std:.3g}\n{words}", *torch.histogram(finite, bins)


def show_histograms(
    figure: "Figure",
    histograms: Sequence[Histogram],
    color: str,
    scale: str,
) -> None:
    """Draw histograms in rows of four, each with its own axis, and set the figure's height."""
    rows = -(-len(histograms) // 4)
    figure.set_figheight(0.8 + 2.0 * rows)
    for place, (title, words, counts, edges) in enumerate(histograms, start=1):
        axes = figure.add_subplot(rows, 4, place)
        axes.stairs(counts, edges, fill=True, color=color)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_yscale(scale)
        axes.yaxis.set_visible(False)
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(labelsize=7)
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.set_title(truncate(title, 36), loc="left", size=9, weight="bold")
        axes.set_xlabel(words, loc="left", size=8, color=GRAY)
