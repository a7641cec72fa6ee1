"""The pictures of images, kernels and maps. Images are (C, H, W), of values from 0 to 1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench.analysis.format import truncate
from cnnbench.reports.inspection.canvas import DIVERGING, GREY, SEQUENTIAL, WIDTH, Array, Canvas, as_picture

__all__ = ["LayerMaps", "Shown", "draw_feature_maps", "draw_kernels", "draw_mistakes", "draw_saliency"]

MOST_MAPS = 16
PER_ROW = 6  # images in a picture of saliency
RED = "#b2182b"
SMALLEST = 1e-12  # what stands for 0 where a scale must have a width


@dataclass(frozen=True)
class Shown:
    """A test image (C, H, W) and what the network makes of it: names of classes, and the probability it gives."""

    index: int
    image: Array
    true: str
    predicted: str
    probability: float

    @property
    def is_right(self) -> bool:
        return self.true == self.predicted

    def verdict(self, most: int) -> str:
        """Such as Shirt → Coat, 0.97, or Coat, 0.97 where that is right; names have at most so many characters."""
        name = truncate(self.predicted, most)
        return f"{name if self.is_right else f'{truncate(self.true, most)} → {name}'}, {self.probability:.2f}"


def draw_mistakes(title: str, shown: Sequence[Shown]) -> Canvas:
    """A gallery, with below each image its number, true class, predicted class and probability."""
    columns = max(5, round((1.8 * len(shown)) ** 0.5))
    side = (WIDTH - 0.4) / columns - 0.14
    reading = "true class → predicted class; at the right the number of the test image, and the probability it is given"
    canvas = Canvas(title, reading, 0.75 + -(-len(shown) // columns) * (side + 0.55))
    for place, each in enumerate(shown):
        row, column = divmod(place, columns)
        x, y = 0.2 + column * (side + 0.14), 0.72 + row * (side + 0.55)
        canvas.image(x, y, side, as_picture(each.image))
        canvas.text(x, y + side + 0.16, each.true, room=side - 0.4, size=8)
        canvas.text(x + side, y + side + 0.16, f"{each.index:,}", size=7, align="right", color=GREY)
        canvas.text(x, y + side + 0.32, f"→ {each.predicted}", room=side - 0.36, size=8, weight="bold")
        canvas.text(x + side, y + side + 0.32, f"{each.probability:.3f}", size=7, align="right", weight="bold")
    return canvas


def draw_saliency(title: str, shown: Sequence[Shown], gradients: Sequence[Array], drops: Sequence[Array]) -> Canvas:
    """In columns the image, the gradient (S, S), and by how much hiding a place lowers the probability."""
    side = min(2.0, (WIDTH - 1.1) / min(PER_ROW, len(shown)) - 0.12)
    step, height = side + 0.12, 3 * (side + 0.12) + 0.55
    reading = (
        "gradient: what moves the logit of the predicted class; occlusion: where it is lost if a patch hides the image"
    )
    canvas = Canvas(title, reading, 0.7 + -(-len(shown) // PER_ROW) * height + 0.35)
    high = max(0.01, *(float(np.abs(drop).max()) for drop in drops))
    for place, (each, gradient, drop) in enumerate(zip(shown, gradients, drops, strict=True)):
        block, column = divmod(place, PER_ROW)
        x, y = 1.0 + column * step, 1.1 + block * height
        if column == 0:
            for row, words in enumerate(("image", "gradient", "occlusion")):
                canvas.text(0.2, y + row * step + side / 2, words, color=GREY)
        truth = "" if each.is_right else f", is {each.true}"
        canvas.text(x, y - 0.23, each.predicted, room=side, weight="bold")
        colour = "black" if each.is_right else RED
        canvas.text(x, y - 0.07, f"{each.probability:.2f}{truth}", room=side, size=8, color=colour)
        canvas.image(x, y, side, as_picture(each.image))
        canvas.image(x, y + step, side, gradient, "gray", 0, max(float(gradient.max()), SMALLEST))
        canvas.image(x, y + 2 * step, side, drop, DIVERGING, -high, high)
        canvas.box(x, y + 2 * step, side, side, fill=False, edgecolor="#bbbbbb", linewidth=0.5)
    words = f"by how much the probability falls, from {-high:.2f} to {high:.2f}"
    canvas.colour_bar(1.0, canvas.height - 0.3, 1.6, DIVERGING, words)
    return canvas


def draw_kernels(title: str, kernels: Array, numbers: Sequence[int]) -> Canvas:
    """Kernels (N, C, h, w): in colour if C is 3, each on a scale of its own; else in one scale around 0."""
    columns = min(len(kernels), 8 if len(kernels) <= 24 else 16)
    side = min(1.6, (WIDTH - 0.4) / columns - 0.12)
    is_coloured = kernels.shape[1] == 3
    reading = "grey is 0; each kernel has a scale of its own" if is_coloured else ""
    canvas = Canvas(title, reading, 0.75 + -(-len(kernels) // columns) * (side + 0.3))
    if is_coloured:
        highest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
        pictures = np.moveaxis(kernels / np.maximum(highest, SMALLEST) / 2 + 0.5, 1, -1)
        colours, low, high = "gray", 0.0, 1.0
    else:
        pictures = kernels.mean(axis=1)
        high = max(float(np.abs(pictures).max()), SMALLEST)
        colours, low = DIVERGING, -high
        canvas.colour_bar(0.2, 0.45, 1.6, DIVERGING, f"weight, {low:.2g} to {high:.2g}")
    for place, (number, picture) in enumerate(zip(numbers, pictures, strict=True)):
        row, column = divmod(place, columns)
        x, y = 0.2 + column * (side + 0.12), 0.9 + row * (side + 0.3)
        canvas.text(x, y - 0.05, str(number), size=8, color=GREY)
        canvas.image(x, y, side, picture, colours, low, high)
        canvas.box(x, y, side, side, fill=False, edgecolor="#bbbbbb", linewidth=0.5)
    return canvas


@dataclass(frozen=True)
class LayerMaps:
    """What a layer gave out for one image, (C, H, W) or (F); its name, and its kind and shape in words."""

    name: str
    kind: str
    values: Array


def strongest(maps: Array) -> list[int]:
    """The channels of (C, H, W) to show: all, or those whose values vary most over the image."""
    spread = maps.reshape(len(maps), -1).std(axis=1)
    return sorted(np.argsort(-spread, kind="stable")[:MOST_MAPS].tolist())


def draw_feature_maps(title: str, shown: Shown, layers: Sequence[LayerMaps]) -> Canvas:
    """The image at the left, and a row for each layer: its maps in one scale, from its lowest value to its highest."""
    left, width, gap = 2.1, WIDTH - 2.3, 0.06
    sides = [
        min(0.8, width / min(MOST_MAPS, len(each.values)) - gap) if each.values.ndim == 3 else 0.25 for each in layers
    ]
    reading = (
        "a row for each layer: its name, kind and shape (channels × height × width), and the scale that its maps share"
    )
    canvas = Canvas(title, reading, max(4.1, 0.9 + sum(side + 0.46 for side in sides)))
    canvas.text(0.2, 0.95, f"test image {shown.index:,}", color=GREY)
    canvas.image(0.2, 1.03, 1.6, as_picture(shown.image))
    canvas.text(0.2, 2.87, "true class", size=8, color=GREY)
    canvas.text(0.2, 3.05, shown.true, room=1.7, size=10, weight="bold")
    canvas.text(0.2, 3.29, "predicted", size=8, color=GREY)
    colour = "black" if shown.is_right else RED
    canvas.text(0.2, 3.47, shown.predicted, room=1.7, size=10, weight="bold", color=colour)
    canvas.text(0.2, 3.65, f"with probability {shown.probability:.2f}", size=8, color=GREY)
    y = 0.95
    for layer, side in zip(layers, sides, strict=True):
        _draw_layer(canvas, (left, y), width, side, gap, layer)
        y += side + 0.46
    return canvas


def _short(value: float) -> str:
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.2g}"


def _draw_layer(
    canvas: Canvas, corner: tuple[float, float], width: float, side: float, gap: float, layer: LayerMaps
) -> None:
    """A line of words from `corner` on, and the maps below."""
    (x, y), values = corner, layer.values
    low, high = float(values.min()), float(values.max())
    canvas.text(x, y, f"{layer.name} · {layer.kind}", room=width - 2.2, size=9.5, weight="bold")
    canvas.colour_bar(x + width - 2.1, y - 0.11, 0.8, SEQUENTIAL, f"{_short(low)} to {_short(high)}")
    if values.ndim != 3:
        canvas.strip(x, y + 0.1, width, side, values, SEQUENTIAL, low, high)
        return
    for column, channel in enumerate(strongest(values)):
        place = x + column * (side + gap)
        canvas.text(place, y + 0.16, str(channel), size=6.5, color=GREY)
        canvas.image(place, y + 0.19, side, values[channel], SEQUENTIAL, low, high)
