"""The pictures of numbers: histograms of weights and activations, receptive fields as boxes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench.analysis.activations import Histogram
from cnnbench.analysis.receptive_field import Traced
from cnnbench.reports.inspection.canvas import GREY, WIDTH, Array, Canvas, as_picture
from cnnbench.reports.inspection.layers import describe, in_words

__all__ = ["Diagram", "draw_diagrams", "draw_receptive_fields"]

COLUMNS = 4
ORANGE = "#d55e00"


@dataclass(frozen=True)
class Diagram:
    """A histogram, its name, and a line of words."""

    name: str
    words: str
    histogram: Histogram


def draw_diagrams(title: str, reading: str, diagrams: Sequence[Diagram], colour: str, log: bool) -> Canvas:
    """Small multiples, each with its own axis."""
    rows, width, height = -(-len(diagrams) // COLUMNS), (WIDTH - 0.2) / COLUMNS, 2.0
    canvas = Canvas(title, reading, 0.7 + rows * height)
    for place, diagram in enumerate(diagrams):
        row, column = divmod(place, COLUMNS)
        x, y = 0.2 + column * width, 0.9 + row * height
        histogram = diagram.histogram
        canvas.text(x, y, diagram.name, room=width - 0.15, weight="bold")
        canvas.text(x, y + 0.17, f"mean {histogram.mean:.3g}, sd {histogram.std:.3g}", size=8, color=GREY)
        canvas.text(x, y + 0.33, diagram.words, size=8, color=GREY)
        axes = canvas.axes(x, y + 0.42, width - 0.25, 1.05)
        axes.stairs(histogram.counts, histogram.edges, fill=True, color=colour)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_yscale("symlog" if log else "linear")
        axes.yaxis.set_visible(False)
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(labelsize=7)
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.margins(x=0.02)
    return canvas


def draw_receptive_fields(title: str, image: Array, layers: Sequence[Traced]) -> Canvas:
    """For each layer the image (C, S, S), bright where a unit in the middle of the layer's maps sees it."""
    side = (WIDTH - 0.4) / COLUMNS - 0.2
    rows = -(-len(layers) // COLUMNS)
    canvas = Canvas(title, "bright: what a unit in the middle of a layer's maps sees", 0.7 + rows * (side + 0.65))
    for place, layer in enumerate(layers):
        row, column = divmod(place, COLUMNS)
        _draw_field(canvas, 0.2 + column * (side + 0.2), 0.95 + row * (side + 0.65), side, as_picture(image), layer)
    return canvas


def _draw_field(canvas: Canvas, x: float, y: float, side: float, picture: Array, layer: Traced) -> None:
    assert layer.field is not None
    size = len(picture)
    seen = [span.of_unit(units // 2) for span, units in zip(layer.field, layer.shape[1:], strict=True)]
    (top, bottom), (left, right) = ([int(min(max(0, end), size)) for end in (a, b + 1)] for a, b in seen)
    bright = np.zeros(picture.shape, bool)
    bright[top:bottom, left:right] = True
    canvas.text(x, y - 0.07, layer.label, room=side, weight="bold")
    canvas.text(x, y + side + 0.18, in_words(layer, size), weight="bold", color=ORANGE)
    canvas.text(x + side, y + side + 0.18, describe(layer.module), size=8, align="right", color=GREY)
    canvas.image(x, y, side, np.where(bright, picture, 0.3 * picture + 0.25))
    scale = side / size
    frame = (x + left * scale, y + top * scale, (right - left) * scale, (bottom - top) * scale)
    canvas.box(*frame, fill=False, edgecolor=ORANGE, linewidth=2)
