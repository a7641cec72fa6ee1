"""The section on receptive fields: a table of the layers, and the fields of some on an image."""

import math
from collections.abc import Sequence
from operator import attrgetter

import numpy as np
from torch import nn

from cnnbench.analysis.activations import pick_evenly
from cnnbench.analysis.format import truncate
from cnnbench.analysis.receptive_field import Traced
from cnnbench.reports.inspection.layers import (
    WINDOWS,
    describe_field,
    describe_module,
    format_shape,
)
from cnnbench.reports.inspection.pictures import STEP, ClassifiedImage, show_rows
from cnnbench.reports.inspection.sections import Section, Subject, describe_choice

__all__ = ["draw_receptive_fields"]

MAX_FIELDS = 8
ORANGE = "#d55e00"


def draw_receptive_fields(subject: Subject, shown: ClassifiedImage) -> Section:
    """Draw the receptive fields of some layers on an image.

    The table has all layers with windows or weights.
    """
    header = ("layer", "kind", "output", "receptive field", "jump", "center of the first unit")
    table: list[Sequence[str]] = [header]
    findings, size = [], subject.size
    convolutions = [layer for layer in subject.layers if isinstance(layer.module, nn.Conv2d)]
    if convolutions:
        last = max(reversed(convolutions), key=attrgetter("side"))
        field = describe_field(last, size).replace("×", "x")
        findings = [f"largest receptive field of a convolution: {field}, in {last.label}"]
    growing: list[Traced] = []
    largest = 0.0
    for layer in subject.layers:
        if isinstance(layer.module, (*WINDOWS, nn.Linear)):
            table.append(_describe_layer(layer, size))
        is_larger = largest < min(layer.side, size) and layer.side < math.inf
        if isinstance(layer.module, WINDOWS) and is_larger:
            growing.append(layer)
            largest = layer.side
    if not growing:
        return Section(table=table, findings=findings)
    drawn = pick_evenly(growing, MAX_FIELDS)
    _draw_fields(subject, shown, drawn)
    choice = describe_choice(len(drawn), len(growing), "layers that see more than those before")
    caption = f"Test image {shown.index:,}. {choice}, up to the whole image."
    return Section([("receptive_field.png", caption)], table, findings=findings)


def _draw_fields(subject: Subject, shown: ClassifiedImage, layers: Sequence[Traced]) -> None:
    """Draw the image for each layer; a bright frame shows the field of its middle unit."""
    from matplotlib.patches import Rectangle

    size, labels = subject.size, []
    for layer in layers:
        kind, field = describe_module(layer.module), describe_field(layer, size)
        labels.append(f"{truncate(layer.label, 30)}\n{kind}\n{field}")
    note = "framed: what a unit in the middle of a layer's maps sees"
    with subject.draw("receptive_field.png", "receptive fields", note) as figure:
        rows, _ = show_rows(figure, [shown.picture] * len(layers), labels, 4)
        for place, layer in enumerate(layers):
            units = zip(layer.field or (), layer.shape[1:], strict=True)
            first, last = np.transpose([span.of_unit(number // 2) for span, number in units])
            top, left = first.clip(0).astype(int)
            bottom, right = (last + 1).clip(max=size).astype(int)
            veil = np.full((size, size), 0.6)
            veil[top:bottom, left:right] = 0
            axes, start = rows[place // 4], place % 4 * STEP
            extent = (start, start + 1, 1, 0)
            axes.imshow(np.full((size, size), 0.3), "gray", alpha=veil, extent=extent, clim=(0, 1))
            corner = (start + left / size, top / size)
            sides = ((right - left) / size, (bottom - top) / size)
            axes.add_patch(Rectangle(corner, *sides, fill=False, color=ORANGE, linewidth=2))


def _describe_layer(layer: Traced, size: int) -> Sequence[str]:
    jump = center = ""
    if layer.field is not None and layer.side < math.inf:
        down, _ = layer.field
        jump, center = f"{down.jump:g}", f"{(down.first + down.last) / 2:g}"
    kind, shape = describe_module(layer.module), format_shape(layer.shape)
    return layer.label, kind, shape, describe_field(layer, size), jump, center
