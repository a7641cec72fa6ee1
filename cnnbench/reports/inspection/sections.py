"""The sections of the page: each draws its pictures into the folder, and says what is special.

How to read them is said in inspection.html.jinja.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cnnbench.analysis import saliency as maps
from cnnbench.analysis.activations import (
    Array,
    LayerOutputs,
    pick_evenly,
    record_outputs,
    summarize_outputs,
    summarize_weights,
)
from cnnbench.analysis.format import align, truncate
from cnnbench.analysis.receptive_field import Traced
from cnnbench.reports.inspection import pictures
from cnnbench.reports.inspection.layers import (
    by,
    describe_field,
    describe_module,
    field_side,
    is_window,
    layers_with_statistics,
)
from cnnbench.reports.inspection.pictures import Shown
from cnnbench.training.engine import EagerEngine

__all__ = [
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

MAX_MULTIPLY_ADDS = 5e10  # for a picture: seconds on two cores
MAX_HISTOGRAMS = 24
MAX_FIELDS = 8
MAX_KERNELS = 64
MAX_PAIRS = 10
MIN_BATCH, MAX_BATCH = 32, 256  # images for activations: fewer if they are much work
HIGHEST = {
    "dead units of ReLU": "dead_units",
    "saturated outputs of sigmoid and tanh": "saturated",
}


@dataclass(frozen=True)
class Section:
    """Pictures, each a file in the folder with a caption; a table under its head; a note.

    `findings` are lines for the terminal.
    """

    pictures: Sequence[tuple[str, str]] = ()
    table: Sequence[Sequence[str]] = ()
    note: str = ""
    findings: Sequence[str] = ()


@dataclass(frozen=True)
class Subject:
    """The network that is looked at, and the folder that its pictures go to.

    `title` names it in each picture. `traced` is what its modules do with an image of `image_shape`
    (C, S, S), `multiply_adds` what that costs.
    """

    folder: Path
    title: str
    engine: EagerEngine
    traced: Sequence[Traced]
    multiply_adds: int
    image_shape: torch.Size

    @property
    def network(self) -> nn.Module:
        return self.engine.eval_model

    @property
    def size(self) -> int:
        return self.image_shape[-1]

    def inputs(self, shown: Shown) -> torch.Tensor:
        """Return the input (1, C, S, S) of the network for an image."""
        return self.engine.inputs(shown.pixels[None])


def mistakes(subject: Subject, wrong: Sequence[Shown], number: int) -> Section:
    """Show at most `number` of its mistakes, of which the most confident come first."""
    if not wrong:
        return Section(note="There are none: every test image is classified correctly.")
    title, shown = f"{subject.title}: the most confident mistakes", wrong[:number]
    pictures.draw_mistakes(subject.folder / "mistakes.png", title, shown)
    caption = (
        f"The {len(shown)} most confident of {len(wrong):,} mistakes. The worst is test image "
        f"{shown[0].index:,}: {shown[0].verdict(40)}."
    )
    pairs = Counter((each.true, each.predicted) for each in wrong).most_common(MAX_PAIRS)
    rows = [(*pair, f"{times:,}") for pair, times in pairs]
    printed = []
    for true, taken, times in rows[:5]:
        printed.append((f"  {truncate(true, 40)}", f"taken for {truncate(taken, 40)}", times))
    findings = ["most often:", align(printed, right=[2])]
    head = ("true class", "predicted", "mistakes")
    return Section([("mistakes.png", caption)], [head, *rows], findings=findings)


def saliency(subject: Subject, shown: Sequence[Shown]) -> Section:
    """Show which pixels move the logits of the predicted classes."""
    size, logits = subject.size, subject.engine.logits
    grid = maps.plan_occlusion(size, subject.multiply_adds, len(shown), MAX_MULTIPLY_ADDS)
    gradients, drops = [], []
    for each in shown:
        gradients.append(maps.compute_input_gradient(logits, subject.inputs(each)))
        drops.append(maps.measure_occlusion(logits, subject.inputs(each), grid))
    path, title = subject.folder / "saliency.png", f"{subject.title}: which pixels decide"
    pictures.draw_saliency(path, title, shown, np.stack(gradients), np.stack(drops))
    falls = ", ".join(f"{drop.max():.2f}" for drop in drops)
    caption = (
        f"The patch hides {grid.patch} × {grid.patch} of {size} × {size} pixels, at {grid.places} "
        f"× {grid.places} places. The probability falls by at most {falls}, from left to right."
    )
    return Section([("saliency.png", caption)])


def feature_maps(subject: Subject, shown: Sequence[Shown], layers: Sequence[Traced]) -> Section:
    """Show a picture for each image."""
    if not layers:
        return Section(note="The network has no layers that give out maps or vectors.")
    drawn, names = [], ", ".join(layer.label for layer in layers)

    def copy(layer: Traced, output: torch.Tensor) -> tuple[Traced, Array]:
        return layer, output[0].cpu().numpy().copy()

    network, forward = subject.network, subject.engine.logits
    for each in shown:
        outputs = record_outputs(network, forward, subject.inputs(each), layers, copy)
        file, title = f"feature_maps_{each.index}.png", f"{subject.title}: feature maps"
        pictures.draw_feature_maps(subject.folder / file, title, each, subject.size, outputs)
        caption = f"Test image {each.index:,}: {each.verdict(40)}. Layers: {names}."
        drawn.append((file, caption))
    return Section(drawn)


def kernels(subject: Subject) -> Section:
    """Show the kernels of the first convolution or, without any, of a linear layer on the image."""
    layers = [each for each in subject.traced if isinstance(each.module, (nn.Conv2d, nn.Linear))]
    convolutions = [layer for layer in layers if isinstance(layer.module, nn.Conv2d)]
    if not layers:
        return Section(note="The network has neither convolutions nor linear layers.")
    first = (convolutions or layers)[0]
    values = subject.network.get_parameter(f"{first.name}.weight").detach().float().cpu()
    if not convolutions and values.shape[1] != np.prod(subject.image_shape):
        note = "The network has no convolution, and its first linear layer does not see the image."
        return Section(note=note)
    if not convolutions:
        values = values.view(-1, *subject.image_shape)
    norms = values.flatten(1).norm(dim=1)
    numbers = sorted(norms.argsort(descending=True, stable=True)[:MAX_KERNELS].tolist())
    some = f"all {len(values)} kernels"
    if len(numbers) < len(values):
        some = f"those {len(numbers)} of {len(values):,} kernels with the largest norm"
    channels = values.shape[1]
    mean = f" Shown is the mean over {channels} input channels." if channels not in (1, 3) else ""
    name = f"{first.label}, {describe_module(first.module)}"
    path, title = subject.folder / "filters.png", f"{subject.title}: weights of {name}"
    pictures.draw_kernels(path, title, values[numbers].numpy(), numbers)
    return Section([("filters.png", f"{name}: {some}, numbered by output channel.{mean}")])


def weights(subject: Subject) -> Section:
    """Show histograms of the weights."""
    named = [each for each in subject.network.named_parameters() if each[1].ndim > 1]
    drawn = []
    for name, weight in pick_evenly(named, MAX_HISTOGRAMS):
        drawn.append((name, by(weight.shape), summarize_weights(weight)))
    path, title = subject.folder / "weights.png", f"{subject.title}: weights"
    pictures.draw_histograms(path, title, "without biases and normalization", drawn, is_log=False)
    return Section([("weights.png", f"{_of_all(len(drawn), len(named), 'weight tensors')}.")])


def activations(subject: Subject, images: torch.Tensor) -> Section:
    """Show histograms of the outputs of layers over some of the images: uint8 (N, C, H, W)."""
    affordable = int(MAX_MULTIPLY_ADDS / max(1, subject.multiply_adds))
    number = max(MIN_BATCH, min(MAX_BATCH, affordable))
    chosen = images[pick_evenly(range(len(images)), number)]
    inputs, layers = subject.engine.inputs(chosen), layers_with_statistics(subject.traced)
    network, forward = subject.network, subject.engine.logits
    outputs = record_outputs(network, forward, inputs, layers, summarize_outputs)
    if not outputs:
        return Section(note="The network has no layers.")
    drawn = []
    for each in pick_evenly(outputs, MAX_HISTOGRAMS):
        name = f"{each.layer.label} · {type(each.layer.module).__name__}"
        drawn.append((name, _state(each), each.histogram))
    path, title = subject.folder / "activations.png", f"{subject.title}: outputs of the layers"
    meaning = "dead: 0 for each of them; saturated: within 0.01 of the ends"
    note = f"logarithmic counts over {len(chosen):,} test images; {meaning}"
    pictures.draw_histograms(path, title, note, drawn, is_log=True)
    some = _of_all(len(drawn), len(outputs), "layers")
    caption = f"{some}, over {len(chosen):,} images, evenly spread over the test set."
    findings = []
    for name, attribute in HIGHEST.items():
        known = [each for each in outputs if getattr(each, attribute) is not None]
        if known:
            highest = max(known, key=attrgetter(attribute))
            share = 100 * getattr(highest, attribute)
            findings.append(f"{name}: at most {share:.1f} %, in {highest.layer.label}")
    return Section([("activations.png", caption)], findings=findings)


def _of_all(drawn: int, number: int, what: str) -> str:
    if drawn == number:
        return f"All {number} {what}"
    return f"{drawn} of {number:,} {what}, evenly chosen"


def _state(outputs: LayerOutputs) -> str:
    shape = outputs.layer.shape
    if outputs.dead_units is not None:
        maps = "" if outputs.dead_maps is None else f", {outputs.dead_maps} of {shape[0]} maps"
        return f"dead: {100 * outputs.dead_units:.1f} % of units{maps}"
    if outputs.saturated is not None:
        return f"saturated: {100 * outputs.saturated:.1f} %"
    return by(shape) + (" units" if len(shape) == 1 else "")


def receptive_fields(subject: Subject, shown: Shown) -> Section:
    """Show a table of the layers with windows or weights, and the fields of some on an image."""
    table = [("layer", "kind", "output", "receptive field", "jump", "center of the first unit")]
    findings = []
    convolutions = [each for each in subject.traced if isinstance(each.module, nn.Conv2d)]
    if convolutions:
        last = max(reversed(convolutions), key=field_side)
        field = describe_field(last, subject.size).replace("×", "x")
        findings = [f"largest receptive field of a convolution: {field}, in {last.label}"]
    growing: list[Traced] = []
    largest = 0.0
    for layer in subject.traced:
        if is_window(layer) or isinstance(layer.module, nn.Linear):
            table.append(_describe(layer, subject.size))
        is_larger = is_window(layer) and largest < field_side(layer) < np.inf
        if is_larger and largest < subject.size:
            growing.append(layer)
            largest = field_side(layer)
    if not growing:
        return Section(table=table, findings=findings)
    drawn = pick_evenly(growing, MAX_FIELDS)
    path, title = subject.folder / "receptive_field.png", f"{subject.title}: receptive fields"
    pictures.draw_receptive_fields(path, title, shown.picture(subject.size), drawn)
    some = _of_all(len(drawn), len(growing), "layers that see more than those before")
    caption = f"Test image {shown.index:,}. {some}, up to the whole image."
    return Section([("receptive_field.png", caption)], table, findings=findings)


def _describe(layer: Traced, size: int) -> tuple[str, str, str, str, str, str]:
    jump = center = ""
    if layer.field is not None and field_side(layer) < np.inf:
        down, _ = layer.field
        jump, center = f"{down.jump:g}", f"{(down.first + down.last) / 2:g}"
    field = describe_field(layer, size)
    return layer.label, describe_module(layer.module), by(layer.shape), field, jump, center
