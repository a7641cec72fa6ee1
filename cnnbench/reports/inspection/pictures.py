"""The pictures of images, kernels, maps and histograms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from cnnbench.analysis.activations import Array, Histogram
from cnnbench.analysis.format import truncate
from cnnbench.analysis.receptive_field import Traced
from cnnbench.reports.figures import GRAY, draw_figure
from cnnbench.reports.inspection.layers import by, describe_field, describe_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

__all__ = [
    "Shown",
    "draw_feature_maps",
    "draw_histograms",
    "draw_kernels",
    "draw_mistakes",
    "draw_receptive_fields",
    "draw_saliency",
]

WIDTH = 11.0  # inches, as wide as a slide
DIVERGING = "RdBu_r"  # as viridis, it can be read by the color-blind
ORANGE, RED = "#d55e00", "#b2182b"
MAX_MAPS = 16
STEP = 1.08  # from picture to picture in a row, in pictures
SMALLEST = 1e-12  # stands for 0 where a scale must have a width
BAR: dict[str, Any] = {"location": "bottom", "shrink": 0.4, "aspect": 40, "anchor": (0, 0)}


@dataclass(frozen=True)
class Shown:
    """A test image: uint8 (C, H, W), its true and predicted class, the probability of that."""

    index: int
    pixels: torch.Tensor
    true: str
    predicted: str
    probability: float

    @property
    def is_right(self) -> bool:
        return self.true == self.predicted

    def picture(self, size: int | None = None) -> Array:
        """Return (H, W, 3) of three channels, else their mean (H, W); `size` x `size` if given."""
        pixels = self.pixels.cpu().float() / 255
        if size is not None and pixels.shape[1:] != (size, size):
            sides = (size, size)
            (pixels,) = functional.interpolate(pixels[None], sides, mode="bilinear", antialias=True)
        picture: Array = (pixels.movedim(0, -1) if len(pixels) == 3 else pixels.mean(dim=0)).numpy()
        return picture

    def verdict(self, most: int) -> str:
        """Return such as Shirt → Coat, 0.97, or Coat, 0.97 where that is right."""
        true = "" if self.is_right else f"{truncate(self.true, most)} → "
        return f"{true}{truncate(self.predicted, most)}, {self.probability:.2f}"


def _show_row(
    axes: "Axes", pictures: Iterable[Array], labels: Sequence[str], columns: int, **scale: Any
) -> "AxesImage":
    """Show pictures side by side with labels above, in a row with room for `columns`."""
    scale = {"cmap": "gray", "vmin": 0, "vmax": 1, **scale}
    for place, picture in enumerate(pictures):
        height, width = np.array(picture.shape[:2]) / max(picture.shape[:2])
        left = place * STEP
        image = axes.imshow(picture, extent=(left, left + width, height, 0), **scale)
    lefts = [place * STEP for place in range(len(labels))]
    axes.set_xticks(lefts, labels, size=8, ha="left")
    axes.tick_params(top=False, labeltop=True, bottom=False, labelbottom=False, pad=0)
    axes.set(xlim=(-0.01, columns * STEP), ylim=(1.01, -0.01), yticks=[], anchor="NW")
    axes.spines[:].set_visible(False)
    return image


def _in_rows(items: Sequence[Any], columns: int) -> list[Sequence[Any]]:
    return [items[start : start + columns] for start in range(0, len(items), columns)]


def draw_mistakes(path: Path, title: str, shown: Sequence[Shown]) -> None:
    """Draw images, each with its true and predicted class, number and probability."""
    columns = max(5, round((1.8 * len(shown)) ** 0.5))
    rows = _in_rows(shown, columns)
    most = 140 // columns
    note = "true class → predicted class, number of the test image: probability of the prediction"
    size = (WIDTH, 0.8 + len(rows) * (WIDTH / columns + 0.4))
    with draw_figure(path, title, size, note) as figure:
        grid = figure.subplots(len(rows), squeeze=False)
        for row, axes in zip(rows, grid.flat, strict=True):
            labels = [
                f"{truncate(each.true, most)}\n→ {truncate(each.predicted, most)}\n"
                f"{each.index:,}: {each.probability:.3f}"
                for each in row
            ]
            _show_row(axes, [each.picture() for each in row], labels, columns)


def draw_saliency(
    path: Path,
    title: str,
    shown: Sequence[Shown],
    gradients: Array,
    drops: Array,
) -> None:
    """Draw in columns image, gradient (N, S, S) and what hiding a place costs (N, P, P)."""
    columns = min(6, len(shown))
    side = min(2.0, WIDTH / columns)
    scales = np.maximum(gradients.max(axis=(1, 2), keepdims=True), SMALLEST)
    high = max(0.01, float(np.abs(drops).max()))
    blocks = _in_rows(range(len(shown)), columns)
    note = "gradient: what moves the predicted class's logit; occlusion: where a patch loses it"
    size = (WIDTH, 1.2 + len(blocks) * (3 * side + 0.5))
    with draw_figure(path, title, size, note) as figure:
        grid = figure.subplots(3 * len(blocks)).reshape(-1, 3)
        for block, (image, gradient, occlusion) in zip(blocks, grid, strict=True):
            part = slice(block[0], block[-1] + 1)
            labels = [each.verdict(int(10 * side)).replace(" → ", "\n→ ") for each in shown[part]]
            seen = [each.picture(gradients.shape[-1]) for each in shown[part]]
            _show_row(image, seen, labels, columns)
            for label, each in zip(image.get_xticklabels(), shown[part], strict=True):
                label.set_color("black" if each.is_right else RED)
            _show_row(gradient, (gradients / scales)[part], [], columns)
            scale = {"cmap": DIVERGING, "vmin": -high, "vmax": high}
            last = _show_row(occlusion, drops[part], [], columns, **scale)
            image.set_ylabel("image")
            gradient.set_ylabel("gradient")
            occlusion.set_ylabel("occlusion")
        figure.colorbar(last, ax=grid, label="by how much the probability falls", **BAR)


def draw_kernels(path: Path, title: str, kernels: Array, numbers: Sequence[int]) -> None:
    """Draw kernels (N, C, h, w): in color if C is 3, each on its own scale; else in one scale."""
    columns = min(len(kernels), 8 if len(kernels) <= 24 else 16)
    pictures, scale = kernels.mean(axis=1), dict[str, Any]()
    high = max(float(np.abs(pictures).max()), SMALLEST)
    is_colored = kernels.shape[1] == 3
    if is_colored:
        highest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
        pictures = np.moveaxis(kernels / np.maximum(highest, SMALLEST) / 2 + 0.5, 1, -1)
    else:
        scale = {"cmap": DIVERGING, "vmin": -high, "vmax": high}
    rows = _in_rows(range(len(kernels)), columns)
    note = "gray is 0; each kernel has a scale of its own" if is_colored else ""
    size = (WIDTH, 1.2 + len(rows) * (min(1.6, WIDTH / columns) + 0.2))
    with draw_figure(path, title, size, note) as figure:
        grid = figure.subplots(len(rows), squeeze=False)
        for axes, row in zip(grid.flat, rows, strict=True):
            labels = [str(numbers[place]) for place in row]
            last = _show_row(axes, pictures[row[0] : row[-1] + 1], labels, columns, **scale)
        if not is_colored:
            figure.colorbar(last, ax=grid, label="weight", **BAR)


def strongest(maps: Array) -> list[int]:
    """Return the channels of (C, H, W) to show: those whose values vary most over the image."""
    spread = maps.reshape(len(maps), -1).std(axis=1)
    return sorted(np.argsort(-spread, kind="stable")[:MAX_MAPS].tolist())


def draw_feature_maps(
    path: Path,
    title: str,
    shown: Shown,
    image_size: int,
    outputs: Sequence[tuple[Traced, Array]],
) -> None:
    """Draw the image, and a row for each layer: its maps (C, H, W) or units (F) in one scale."""
    note = "a row for each layer: its name, kind and shape (channels × height × width)"
    size = (WIDTH, max(4.0, 0.8 + 1.05 * len(outputs)))
    with draw_figure(path, title, size, note) as figure:
        parts: Any = figure.subfigures(1, 2, width_ratios=(1, 5))
        image, right = parts[0].subplots(), parts[1]
        _show_row(image, [shown.picture(image_size)], [], 1)
        verdict = shown.verdict(20).replace(" → ", "\n→ ")
        color = "black" if shown.is_right else RED
        text = f"test image {shown.index:,}\n{verdict}"
        image.set_title(text, loc="left", size=8, color=color)  # whose width moves nothing
        grid = right.subplots(len(outputs), squeeze=False)
        for axes, (layer, values) in zip(grid.flat, outputs, strict=True):
            scale = {"cmap": "viridis", "vmin": values.min(), "vmax": values.max()}
            if values.ndim == 3:
                channels = strongest(values)
                labels = [str(channel) for channel in channels]
                last = _show_row(axes, values[channels], labels, max(10, len(labels)), **scale)
            else:
                last = axes.imshow(values[None], aspect="auto", **scale)
                axes.set(xticks=[], yticks=[])
            name = f"{layer.label} · {describe_module(layer.module)} · {by(layer.shape)}"
            axes.set_title(truncate(name, 80), loc="left", size=9, weight="bold")
            ends = [scale["vmin"], scale["vmax"]]
            right.colorbar(last, ax=axes, ticks=ends, format="{x:.2g}", fraction=0.02)


def draw_histograms(
    path: Path,
    title: str,
    note: str,
    histograms: Sequence[tuple[str, str, Histogram]],
    *,
    is_log: bool,
) -> None:
    """Draw small multiples, each with its name, a line of words and its own axis."""
    rows = -(-len(histograms) // 4)
    with draw_figure(path, title, (WIDTH, 0.8 + 2.0 * rows), note) as figure:
        grid = figure.subplots(rows, 4, squeeze=False).flat
        for axes in grid[len(histograms) :]:
            axes.set_axis_off()
        for axes, (name, words, histogram) in zip(grid, histograms, strict=False):
            color = "#009e73" if is_log else "#0072b2"
            axes.stairs(histogram.counts, histogram.edges, fill=True, color=color)
            axes.axvline(0, color="black", linewidth=0.6)
            axes.set_yscale("symlog" if is_log else "linear")
            axes.yaxis.set_visible(False)
            axes.locator_params(axis="x", nbins=5)
            axes.tick_params(labelsize=7)
            axes.spines[["left", "right", "top"]].set_visible(False)
            axes.set_title(truncate(name, 36), loc="left", size=9, weight="bold")
            label = f"mean {histogram.mean:.3g}, sd {histogram.std:.3g}\n{words}"
            axes.set_xlabel(label, loc="left", size=8, color=GRAY)


def draw_receptive_fields(path: Path, title: str, picture: Array, layers: Sequence[Traced]) -> None:
    """Draw for each layer the picture, bright where the middle unit of its maps sees it."""
    from matplotlib.patches import Rectangle

    size, rows = len(picture), _in_rows(layers, 4)
    note = "bright: what a unit in the middle of a layer's maps sees"
    with draw_figure(path, title, (WIDTH, 0.8 + 3.2 * len(rows)), note) as figure:
        grid = figure.subplots(len(rows), squeeze=False)
        for row, axes in zip(rows, grid.flat, strict=True):
            pictures, labels = [], []
            for place, layer in enumerate(row):
                (top, bottom), (left, right) = _visible(layer, size)
                seen = np.zeros(picture.shape, bool)
                seen[top:bottom, left:right] = True
                pictures.append(np.where(seen, picture, 0.3 * picture + 0.25))
                corner = (place * STEP + left / size, top / size)
                sides = ((right - left) / size, (bottom - top) / size)
                axes.add_patch(Rectangle(corner, *sides, fill=False, color=ORANGE, linewidth=2))
                kind, field = describe_module(layer.module), describe_field(layer, size)
                labels.append(f"{truncate(layer.label, 30)}\n{kind}\n{field}")
            _show_row(axes, pictures, labels, 4)


def _visible(layer: Traced, size: int) -> list[tuple[int, int]]:
    """Return the pixels down and across that the middle unit sees, as ranges within `size`."""
    sides = []
    for span, units in zip(layer.field or (), layer.shape[1:], strict=True):
        first, last = span.of_unit(units // 2)
        sides.append((int(min(max(0, first), size)), int(min(max(0, last + 1), size))))
    return sides
