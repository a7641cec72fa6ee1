"""The sections of the page: each draws its pictures into the folder, and says what is special about them.

How to read them is said in page.html.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cnnbench.analysis.activations import (
    Forward,
    LayerOutputs,
    pick_evenly,
    record_outputs,
    summarize_outputs,
    summarize_weights,
)
from cnnbench.analysis.receptive_field import Traced
from cnnbench.analysis.saliency import Logits, compute_input_gradient, measure_occlusion, plan_occlusion
from cnnbench.reports.inspection.canvas import Canvas
from cnnbench.reports.inspection.diagrams import Diagram, draw_diagrams, draw_receptive_fields
from cnnbench.reports.inspection.layers import (
    by,
    describe,
    in_words,
    is_window,
    layers_with_statistics,
    side_of_field,
)
from cnnbench.reports.inspection.pictures import (
    LayerMaps,
    Shown,
    draw_feature_maps,
    draw_kernels,
    draw_mistakes,
    draw_saliency,
)

__all__ = [
    "Picture",
    "Section",
    "Subject",
    "activations",
    "feature_maps",
    "kernels",
    "mistakes",
    "receptive_fields",
    "saliency",
    "weights",
]

MOST_MULTIPLY_ADDS = 5e10  # for a picture: seconds on two cores
MOST_DIAGRAMS = 24
MOST_FIELDS = 8
MOST_KERNELS = 64
MOST_PAIRS = 10
BATCH_SIZE = 64


@dataclass(frozen=True)
class Picture:
    """A file in the folder, what it shows for those who do not see it, and a caption."""

    file: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """Pictures, a table whose first row is its head, and what there is to say instead of them."""

    pictures: Sequence[Picture] = ()
    table: Sequence[Sequence[str]] = ()
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """The network that is looked at, in evaluation mode, and the folder that its pictures go to.

    `title` names it in each picture. `logits` are those it is measured by. `traced` is what its modules do with an
    image of `image_shape` (C, S, S), `multiply_adds` what that costs. `written` are the pictures so far.
    """

    folder: Path
    title: str
    network: nn.Module
    forward: Forward
    logits: Logits
    traced: Sequence[Traced]
    multiply_adds: int
    image_shape: tuple[int, int, int]
    written: list[Path] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.image_shape[-1]

    def save(self, canvas: Canvas, file: str, alt: str, caption: str) -> Picture:
        canvas.save(self.folder / file)
        self.written.append(self.folder / file)
        return Picture(file, alt, caption)


def mistakes(subject: Subject, shown: Sequence[Shown], number: int, pairs: Counter[tuple[str, str]]) -> Section:
    """The most confident of its mistakes; `pairs` counts all by true and predicted class."""
    if not shown:
        return Section(note="There are none: every test image is classified correctly.")
    picture = subject.save(
        draw_mistakes(f"{subject.title}: the most confident mistakes", shown),
        "mistakes.png",
        f"{len(shown)} test images that are classified wrongly, each with its true and predicted class",
        f"The {len(shown)} most confident of {number:,} mistakes. The worst is test image {shown[0].index:,}: "
        f"{shown[0].verdict(40)}.",
    )
    most = [(*pair, f"{times:,}") for pair, times in pairs.most_common(MOST_PAIRS)]
    return Section([picture], [("true class", "predicted", "mistakes"), *most])


def saliency(subject: Subject, shown: Sequence[Shown], inputs: Sequence[torch.Tensor], targets: list[int]) -> Section:
    """Of the classes `targets`, which are those predicted."""
    size = subject.size
    how = plan_occlusion(size, subject.multiply_adds, len(shown), MOST_MULTIPLY_ADDS)
    pairs = list(zip(inputs, targets, strict=True))
    gradients = [compute_input_gradient(subject.logits, each, target) for each, target in pairs]
    drops = [measure_occlusion(subject.logits, each, target, how, BATCH_SIZE) for each, target in pairs]
    picture = subject.save(
        draw_saliency(f"{subject.title}: which pixels decide", shown, gradients, drops),
        "saliency.png",
        "In columns: a test image, the strength of the gradient at each pixel, and the effect of hiding each place",
        f"The patch hides {how.patch} × {how.patch} of {size} × {size} pixels, at {how.places} × {how.places} places. "
        f"The probability falls by at most {', '.join(f'{drop.max():.2f}' for drop in drops)}, from left to right.",
    )
    return Section([picture])


def feature_maps(
    subject: Subject, shown: Sequence[Shown], inputs: Sequence[torch.Tensor], layers: Sequence[Traced]
) -> Section:
    """A picture for each image."""
    if not layers:
        return Section(note="The network has no layers that give out maps or vectors.")
    pictures = []
    for each, image in zip(shown, inputs, strict=True):
        outputs = record_outputs(subject.network, subject.forward, image, layers)
        maps = [
            LayerMaps(layer.label, f"{describe(layer.module)} · {by(layer.shape)}", values)
            for layer, values in zip(layers, outputs, strict=True)
        ]
        picture = subject.save(
            draw_feature_maps(f"{subject.title}: feature maps", each, maps),
            f"feature_maps_{each.index}.png",
            f"What {', '.join(layer.label for layer in layers)} give out for test image {each.index}, as small images",
            f"Test image {each.index:,}: {each.verdict(40)}.",
        )
        pictures.append(picture)
    return Section(pictures)


def kernels(subject: Subject) -> Section:
    """Of the first convolution or, in a network without, the first linear layer, if it sees the image."""
    layers = [layer for layer in subject.traced if isinstance(layer.module, (nn.Conv2d, nn.Linear))]
    convolutions = [layer for layer in layers if isinstance(layer.module, nn.Conv2d)]
    first = next(iter(convolutions or layers), None)
    if first is None:
        return Section(note="The network has neither convolutions nor linear layers.")
    weight = subject.network.get_submodule(first.name).weight
    assert isinstance(weight, torch.Tensor)
    weight = weight.detach().float().cpu()
    if not convolutions and weight.shape[1] != np.prod(subject.image_shape):
        return Section(note="The network has no convolution, and its first linear layer does not see the image.")
    values = (weight if convolutions else weight.view(-1, *subject.image_shape)).numpy()
    norms = np.sqrt((values**2).sum(axis=(1, 2, 3)))
    numbers = sorted(np.argsort(-norms, kind="stable")[:MOST_KERNELS].tolist())
    some = f"those {len(numbers)} of {len(values):,}" if len(numbers) < len(values) else f"all {len(values)}"
    largest = " with the largest norm" if len(numbers) < len(values) else ""
    mean = f" Shown is the mean over {values.shape[1]} input channels." if values.shape[1] not in (1, 3) else ""
    picture = subject.save(
        draw_kernels(f"{subject.title}: weights of {first.label}, {describe(first.module)}", values[numbers], numbers),
        "filters.png",
        f"{len(numbers)} kernels of {first.name} as small images",
        f"{first.label}, {describe(first.module)}: {some} kernels{largest}, numbered by output channel.{mean}",
    )
    return Section([picture])


def weights(subject: Subject) -> Section:
    chosen, number = summarize_weights(subject.network, MOST_DIAGRAMS)
    diagrams = [Diagram(name, by(weight.shape), histogram) for name, weight, histogram in chosen]
    picture = subject.save(
        draw_diagrams(f"{subject.title}: weights", "without biases and normalisation", diagrams, "#0072b2", log=False),
        "weights.png",
        f"Histograms of {len(diagrams)} weight tensors",
        _of_all(len(diagrams), number, "weight tensors") + ".",
    )
    return Section([picture])


def activations(
    subject: Subject, batches: Callable[[], Iterable[torch.Tensor]], images: int
) -> tuple[Section, list[LayerOutputs]]:
    """Over so many images, the inputs of which `batches` gives each time it is called."""
    layers = layers_with_statistics(subject.traced)
    if not layers:
        return Section(note="The network has no layers."), []
    outputs = summarize_outputs(subject.network, subject.forward, batches, layers, MOST_DIAGRAMS)
    diagrams = [
        Diagram(f"{each.layer.label} · {type(each.layer.module).__name__}", _state(each), each.histogram)
        for each in outputs
        if each.histogram is not None
    ]
    reading = (
        f"logarithmic counts over {images:,} test images; dead: 0 for each of them; saturated: within 0.01 of the ends"
    )
    picture = subject.save(
        draw_diagrams(f"{subject.title}: outputs of the layers", reading, diagrams, "#009e73", log=True),
        "activations.png",
        f"Histograms of the outputs of {len(diagrams)} layers",
        f"{_of_all(len(diagrams), len(outputs), 'layers')}, over {images:,} images, evenly spread over the test set.",
    )
    return Section([picture]), outputs


def _of_all(drawn: int, number: int, what: str) -> str:
    return f"{drawn} of {number:,} {what}, evenly chosen" if drawn < number else f"All {number} {what}"


def _state(outputs: LayerOutputs) -> str:
    shape = outputs.layer.shape
    if outputs.dead_units is not None:
        maps = "" if outputs.dead_maps is None else f", {outputs.dead_maps} of {shape[0]} maps"
        return f"dead: {100 * outputs.dead_units:.1f} % of units{maps}"
    if outputs.saturated is not None:
        return f"saturated: {100 * outputs.saturated:.1f} %"
    return by(shape) + (" units" if len(shape) == 1 else "")


def receptive_fields(subject: Subject, shown: Shown) -> Section:
    """A table of the layers with windows or weights, and a picture of some on an image."""
    table: list[tuple[str, ...]] = [("layer", "kind", "output", "receptive field", "jump", "centre of the first unit")]
    rows = [layer for layer in subject.traced if is_window(layer) or isinstance(layer.module, nn.Linear)]
    table += [_row(layer, subject.size) for layer in rows]
    growing: list[Traced] = []
    for layer in filter(is_window, subject.traced):
        so_far = side_of_field(growing[-1]) if growing else 0
        if so_far < side_of_field(layer) < np.inf and so_far < subject.size:
            growing.append(layer)
    if not growing:
        return Section(table=table)
    drawn = pick_evenly(growing, MOST_FIELDS)
    picture = subject.save(
        draw_receptive_fields(f"{subject.title}: receptive fields", shown.image, drawn),
        "receptive_field.png",
        f"The receptive fields of {len(drawn)} layers as boxes on test image {shown.index}",
        f"{_of_all(len(drawn), len(growing), 'layers that see more than those before')}, up to the whole image.",
    )
    return Section([picture], table)


def _row(layer: Traced, size: int) -> tuple[str, ...]:
    cells = (layer.label, describe(layer.module), by(layer.shape), in_words(layer, size))
    if layer.field is None or side_of_field(layer) == np.inf:
        return (*cells, "", "")
    down, _ = layer.field
    return (*cells, f"{down.jump:g}", f"{(down.first + down.last) / 2:g}")
