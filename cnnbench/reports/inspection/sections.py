"""The sections of the page: each draws its pictures into the folder, and says what is special.

How to read them is said in inspection.html.jinja.
"""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cnnbench.analysis.activations import DEAD, SATURATED, measure_idle, pick_evenly, record_outputs
from cnnbench.analysis.format import align, format_count, truncate
from cnnbench.analysis.receptive_field import Traced
from cnnbench.analysis.saliency import compute_input_gradient, measure_occlusion
from cnnbench.reports.figures import draw_figure
from cnnbench.reports.inspection.layers import (
    POOLINGS,
    WINDOWS,
    describe_field,
    describe_module,
    format_shape,
)
from cnnbench.reports.inspection.pictures import (
    MIN_COLUMNS,
    STEP,
    WIDTH,
    ClassifiedImage,
    Histogram,
    count_maps,
    make_histogram,
    show_histograms,
    show_maps,
    show_row,
    show_rows,
)
from cnnbench.training.engine import EagerEngine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Section",
    "Subject",
    "draw_activations",
    "draw_feature_maps",
    "draw_kernels",
    "draw_mistakes",
    "draw_receptive_fields",
    "draw_saliency",
    "draw_weights",
]

MAX_MULTIPLY_ADDS = 5e10  # for a picture: seconds on two cores
MAX_HISTOGRAMS = 24
MAX_FIELDS = 8
MAX_KERNELS = 64
MAX_PAIRS = 10
MIN_PLACES, MAX_PLACES = 7, 28  # of the patch along a side
MIN_BATCH, MAX_BATCH = 32, 256  # images for activations: fewer if they are much work
DIVERGING = "RdBu_r"  # as viridis, it can be read by the color-blind
ORANGE = "#d55e00"
SMALLEST = 1e-12  # stands for 0 where a scale must have a width
# of a color bar: it leaves the pictures on the left
BAR: dict[str, Any] = {"format": "{x:.2g}", "panchor": False}
LOW: dict[str, Any] = {**BAR, "location": "bottom", "shrink": 0.4, "aspect": 40, "anchor": (0, 0)}


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

    `title` names it in each picture. `layers` are its main layers, with what they do with an image
    (channels, size, size), `multiply_adds` what that costs.
    """

    folder: Path
    title: str
    engine: EagerEngine
    layers: Sequence[Traced]
    multiply_adds: int
    channels: int
    size: int

    def draw(self, file: str, what: str, note: str = "") -> AbstractContextManager["Figure"]:
        """Give the block a figure, to set its height and fill it; then save it in the folder."""
        return draw_figure(self.folder / file, f"{self.title}: {what}", (WIDTH, WIDTH), note)


def draw_mistakes(subject: Subject, wrong: Sequence[ClassifiedImage], number: int) -> Section:
    """Show at most `number` of its mistakes, of which the most confident come first."""
    if not wrong:
        return Section(note="There are none: every test image is classified correctly.")
    shown, labels = wrong[:number], []
    columns = max(5, round((1.8 * len(shown)) ** 0.5))
    most = 140 // columns
    for each in shown:
        classes = f"{truncate(each.true, most)}\n→ {truncate(each.predicted, most)}"
        labels.append(f"{classes}\n{each.index:,}: {each.probability:.3f}")
    note = "true class → predicted class, number of the test image: probability of the prediction"
    with subject.draw("mistakes.png", "the most confident mistakes", note) as figure:
        show_rows(figure, [each.picture for each in shown], labels, columns)
    caption = (
        f"The {len(shown)} most confident of {format_count(len(wrong), 'mistake')}. "
        f"The worst is test image {shown[0].index:,}: {shown[0].verdict}."
    )
    pairs = Counter((each.true, each.predicted) for each in wrong).most_common(MAX_PAIRS)
    rows = [(truncate(true, 40), truncate(taken, 40), f"{n:,}") for (true, taken), n in pairs]
    printed = [(f"  {true}", f"taken for {taken}", times) for true, taken, times in rows[:5]]
    findings = ["most often:", align(printed, right=[2])]
    head = ("true class", "predicted", "mistakes")
    return Section([("mistakes.png", caption)], [head, *rows], findings=findings)


def draw_saliency(subject: Subject, shown: Sequence[ClassifiedImage]) -> Section:
    """Show which pixels move the logits of the predicted classes."""
    size, logits, columns = subject.size, subject.engine.logits, min(6, len(shown))
    affordable = (MAX_MULTIPLY_ADDS / max(1, subject.multiply_adds * len(shown))) ** 0.5
    places = min(size, max(MIN_PLACES, min(MAX_PLACES, int(affordable))))
    patch = max(1, round(size / 5))
    gradients, drops = [], []
    for each in shown:
        inputs = subject.engine.inputs(each.pixels[None])
        gradients.append(compute_input_gradient(logits, inputs))
        drops.append(measure_occlusion(logits, inputs, patch, places))
    # each map its own scale, in which chance is no pattern
    highs = [max(0.01, float(np.abs(drop).max())) for drop in drops]
    maps = [drop / high for drop, high in zip(drops, highs, strict=True)]
    numbers = [f"± {high:.2f}" for high in highs]
    scale = {"cmap": DIVERGING, "vmin": -1, "vmax": 1}
    blocks = range(0, len(shown), columns)
    note = "gradient: what moves the predicted class's logit; occlusion: where a patch loses it"
    with subject.draw("saliency.png", "which pixels decide", note) as figure:
        figure.set_figheight(1.2 + len(blocks) * (3 * min(2.0, WIDTH / columns) + 0.7))
        grid = figure.subplots(3 * len(blocks)).reshape(-1, 3)
        for start, (image, gradient, occlusion) in zip(blocks, grid, strict=True):
            part = slice(start, start + columns)
            labels = [each.verdict for each in shown[part]]
            show_row(image, [each.picture for each in shown[part]], labels, columns)
            for label, each in zip(image.get_xticklabels(), shown[part], strict=True):
                label.set_color(each.color)
            show_row(gradient, gradients[part], [], columns, vmax=None)  # each its own
            last = show_row(occlusion, maps[part], numbers[part], columns, **scale)
            image.set_ylabel("image")
            gradient.set_ylabel("gradient")
            occlusion.set_ylabel("occlusion")
        label = "the probability, by at most the number above the map"
        bar = figure.colorbar(last, ax=grid, ticks=(-1, 0, 1), label=label, **LOW)
        bar.set_ticklabels(["rises", "0", "falls"])
    falls = ", ".join(f"{drop.max():.2f}" for drop in drops)
    caption = (
        f"The patch hides {patch} × {patch} of {size} × {size} pixels, at {places} × {places} "
        f"places. The probability falls by at most {falls}, from left to right."
    )
    return Section([("saliency.png", caption)])


def draw_feature_maps(
    subject: Subject, shown: Sequence[ClassifiedImage], layers: Sequence[Traced]
) -> Section:
    """Show a picture for each image: a row for each layer, its maps or units in one scale."""
    if not layers:
        return Section(note="The network has no layers that give out maps or vectors.")
    drawn, names = [], ", ".join(layer.label for layer in layers)
    engine = subject.engine
    note = "a row for each layer: its name, kind and shape (channels × height × width)"
    for each in shown:
        inputs = engine.inputs(each.pixels[None])
        outputs = record_outputs(engine.eval_model, engine.logits, inputs, layers, _copy)
        file = f"feature_maps_{each.index}.png"
        with subject.draw(file, "feature maps", note) as figure:
            columns = max(MIN_COLUMNS, *map(count_maps, outputs))
            figure.set_figheight(max(4.0, 0.8 + (0.5 + 8 / columns) * len(outputs)))
            mosaic = [["image", row] for row in range(len(layers))]
            axes: Any = figure.subplot_mosaic(mosaic, width_ratios=(1, 5))
            show_row(axes["image"], [each.picture], [], 1)
            verdict = f"test image {each.index:,}\n{each.verdict}"
            axes["image"].set_title(verdict, loc="left", size=8, color=each.color)
            for row, (layer, values) in enumerate(zip(layers, outputs, strict=True)):
                last = show_maps(axes[row], values)
                name = (
                    f"{layer.label} · {describe_module(layer.module)} · {format_shape(layer.shape)}"
                )
                axes[row].set_title(truncate(name, 80), loc="left", size=9, weight="bold")
                ticks = last.get_clim()
                figure.colorbar(last, ax=axes[row], ticks=ticks, fraction=0.02, **BAR)
        drawn.append((file, f"Test image {each.index:,}: {each.verdict}. Layers: {names}."))
    return Section(drawn)


def _copy(layer: Traced, output: torch.Tensor) -> Any:
    return output[0].cpu().numpy().copy()


def draw_kernels(subject: Subject) -> Section:
    """Show the kernels of the first convolution or, without any, of a linear layer on the image."""
    convolutions = [layer for layer in subject.layers if isinstance(layer.module, nn.Conv2d)]
    linear = [layer for layer in subject.layers if isinstance(layer.module, nn.Linear)]
    image = (subject.channels, subject.size, subject.size)
    on_image = [each for each in linear[:1] if each.module.in_features == math.prod(image)]
    if not convolutions + on_image:
        note = "The network has neither a convolution nor a linear layer on the image."
        return Section(note=note)
    first = (convolutions or on_image)[0]
    values = subject.engine.eval_model.get_parameter(f"{first.name}.weight").detach().float().cpu()
    values = values if convolutions else values.view(-1, *image)
    norms, channels = values.flatten(1).norm(dim=1), values.shape[1]
    numbers = sorted(norms.argsort(descending=True, stable=True)[:MAX_KERNELS].tolist())
    chosen = values[numbers].numpy()
    note, mean, pictures = "", "", chosen.mean(axis=1)
    high = max(float(np.abs(pictures).max()), SMALLEST)
    scale: dict[str, Any] = {"cmap": DIVERGING, "vmin": -high, "vmax": high}
    if channels == 3:
        highest = np.abs(chosen).max(axis=(1, 2, 3), keepdims=True) + SMALLEST
        pictures = np.moveaxis(chosen / highest / 2 + 0.5, 1, -1)
        note = "gray is 0; each kernel has a scale of its own"
    elif channels > 1:
        mean = f" Shown is the mean over {channels} input channels."
    name = f"{first.label}, {describe_module(first.module)}"
    labels, columns = [str(number) for number in numbers], 8 if len(numbers) <= 24 else 16
    with subject.draw("filters.png", f"weights of {name}", note) as figure:
        rows, last = show_rows(figure, pictures, labels, columns, **scale)
        if channels != 3:
            figure.colorbar(last, ax=rows, ticks=(-high, 0, high), label="weight", **LOW)
    some = f"all {len(values)} kernels"
    if len(numbers) < len(values):
        some = f"those {len(numbers)} of {len(values):,} kernels with the largest norm"
    return Section([("filters.png", f"{name}: {some}, numbered by output channel.{mean}")])


def draw_weights(subject: Subject) -> Section:
    """Show histograms of the weights."""
    named = [each for each in subject.engine.eval_model.named_parameters() if each[1].ndim > 1]
    chosen = pick_evenly(named, MAX_HISTOGRAMS)
    drawn = [
        make_histogram(name, format_shape(weight.shape), weight.detach()) for name, weight in chosen
    ]
    with subject.draw("weights.png", "weights", "without biases and normalization") as figure:
        show_histograms(figure, drawn, "#0072b2", "linear")
    return Section([("weights.png", f"{_of_all(len(drawn), len(named), 'weight tensors')}.")])


def draw_activations(subject: Subject, images: torch.Tensor) -> Section:
    """Show histograms of the outputs of layers over some of the images: uint8 (N, C, H, W)."""
    layers = [each for each in subject.layers if not isinstance(each.module, POOLINGS)]
    if not layers:
        return Section(note="The network has no layers but poolings and normalizations.")
    affordable = int(MAX_MULTIPLY_ADDS / max(1, subject.multiply_adds))
    number = max(MIN_BATCH, min(MAX_BATCH, affordable))
    chosen, engine = images[pick_evenly(range(len(images)), number)], subject.engine
    shares: dict[str, list[tuple[float, str]]] = {DEAD: [], SATURATED: [], "": []}

    def summarize(layer: Traced, outputs: torch.Tensor) -> Histogram:
        kind, share, words = measure_idle(layer.module, outputs)
        shares[kind].append((share, layer.label))
        title = f"{layer.label} · {type(layer.module).__name__}"
        return make_histogram(title, words or f"{format_shape(layer.shape)} units", outputs)

    inputs = engine.inputs(chosen)
    outputs = record_outputs(engine.eval_model, engine.logits, inputs, layers, summarize)
    drawn = pick_evenly(outputs, MAX_HISTOGRAMS)
    meaning = "dead: 0 for each of them; saturated: within 0.01 of the ends"
    note = f"logarithmic counts over {len(chosen):,} test images; {meaning}"
    with subject.draw("activations.png", "outputs of the layers", note) as figure:
        show_histograms(figure, drawn, "#009e73", "symlog")
    some = _of_all(len(drawn), len(outputs), "layers")
    caption = f"{some}, over {len(chosen):,} images, evenly spread over the test set."
    findings = []
    for kind in (DEAD, SATURATED):
        if shares[kind]:
            share, label = max(shares[kind], key=itemgetter(0))
            findings.append(f"{kind}: at most {100 * share:.1f} %, in {label}")
    return Section([("activations.png", caption)], findings=findings)


def _of_all(drawn: int, number: int, what: str) -> str:
    if drawn == number:
        return f"All {number} {what}"
    return f"{drawn} of {number:,} {what}, evenly chosen"


def draw_receptive_fields(subject: Subject, shown: ClassifiedImage) -> Section:
    """Show a table of the layers with windows or weights, and the fields of some on an image."""
    head = ("layer", "kind", "output", "receptive field", "jump", "center of the first unit")
    table: list[Sequence[str]] = [head]
    findings, size = [], subject.size
    convolutions = [each for each in subject.layers if isinstance(each.module, nn.Conv2d)]
    if convolutions:
        last = max(reversed(convolutions), key=attrgetter("side"))
        field = describe_field(last, size).replace("×", "x")
        findings = [f"largest receptive field of a convolution: {field}, in {last.label}"]
    growing: list[Traced] = []
    largest = 0.0
    for layer in subject.layers:
        if isinstance(layer.module, (*WINDOWS, nn.Linear)):
            table.append(_describe(layer, size))
        is_larger = largest < min(layer.side, size) and layer.side < math.inf
        if isinstance(layer.module, WINDOWS) and is_larger:
            growing.append(layer)
            largest = layer.side
    if not growing:
        return Section(table=table, findings=findings)
    drawn = pick_evenly(growing, MAX_FIELDS)
    _draw_fields(subject, shown, drawn)
    some = _of_all(len(drawn), len(growing), "layers that see more than those before")
    caption = f"Test image {shown.index:,}. {some}, up to the whole image."
    return Section([("receptive_field.png", caption)], table, findings=findings)


def _draw_fields(subject: Subject, shown: ClassifiedImage, layers: Sequence[Traced]) -> None:
    """Draw for each layer the image, bright and framed where the middle unit of its maps sees."""
    from matplotlib.patches import Rectangle

    size, labels = subject.size, []
    for layer in layers:
        kind, field = describe_module(layer.module), describe_field(layer, size)
        labels.append(f"{truncate(layer.label, 30)}\n{kind}\n{field}")
    note = "bright: what a unit in the middle of a layer's maps sees"
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


def _describe(layer: Traced, size: int) -> Sequence[str]:
    jump = center = ""
    if layer.field is not None and layer.side < math.inf:
        down, _ = layer.field
        jump, center = f"{down.jump:g}", f"{(down.first + down.last) / 2:g}"
    field = describe_field(layer, size)
    return (
        layer.label,
        describe_module(layer.module),
        format_shape(layer.shape),
        field,
        jump,
        center,
    )
