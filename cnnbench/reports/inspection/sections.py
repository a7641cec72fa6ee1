"""The sections of the page: pictures in its folder, and captions for what is special about them.

The template inspection.html.jinja explains how to read the pictures.
"""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cnnbench.analysis.activations import DEAD, SATURATED, measure_idle, pick_evenly, record_outputs
from cnnbench.analysis.format import align, format_count, truncate
from cnnbench.analysis.layers import POOLINGS
from cnnbench.analysis.receptive_field import Traced
from cnnbench.analysis.saliency import compute_input_gradient, measure_occlusion
from cnnbench.reports.figures import draw_figure
from cnnbench.reports.inspection.layers import describe_module, format_shape
from cnnbench.reports.inspection.pictures import (
    MIN_COLUMNS,
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
    "describe_choice",
    "draw_activations",
    "draw_feature_maps",
    "draw_kernels",
    "draw_mistakes",
    "draw_saliency",
    "draw_weights",
    "pick_images",
]

MAX_MULTIPLY_ADDS = 5e10  # for one picture: seconds on two cores
MAX_HISTOGRAMS = 24
MAX_KERNELS = 64
MAX_PAIRS = 10
MIN_PLACES, MAX_PLACES = 7, 28  # places of the occlusion patch along a side
MIN_BATCH, MAX_BATCH = 32, 256  # images for activations and gradients
DIVERGING = "RdBu_r"  # readable for the color-blind, as is viridis
EPSILON = 1e-12  # replaces 0 where a scale must have a width
# arguments of color bars: panchor keeps the pictures at the left
BAR: dict[str, Any] = {"format": "{x:.2g}", "panchor": False}
LOW: dict[str, Any] = {**BAR, "location": "bottom", "shrink": 0.4, "aspect": 40, "anchor": (0, 0)}


@dataclass(frozen=True)
class Section:
    """A section of the page.

    `pictures` are files in the folder with their captions. `table` begins with its header.
    `findings` are lines for the terminal.
    """

    pictures: Sequence[tuple[str, str]] = ()
    table: Sequence[Sequence[str]] = ()
    note: str = ""
    findings: Sequence[str] = ()


@dataclass(frozen=True)
class Subject:
    """The network to inspect, and the folder for its pictures.

    `title` names the network in each picture. `layers` are its main layers, traced with an image
    (channels, size, size). `multiply_adds` is the cost of one such image.
    """

    folder: Path
    title: str
    engine: EagerEngine
    layers: Sequence[Traced]
    multiply_adds: int
    channels: int
    size: int

    def draw(self, file: str, title: str, note: str = "") -> AbstractContextManager["Figure"]:
        """Give the block a figure to set the height of and to fill, then save it in the folder."""
        return draw_figure(self.folder / file, f"{self.title}: {title}", (WIDTH, WIDTH), note)


def draw_mistakes(subject: Subject, wrong: Sequence[ClassifiedImage], number: int) -> Section:
    """Draw the first `number` images of `wrong`, which has the most confident mistakes first."""
    if not wrong:
        return Section(note="There are none: every test image is classified correctly.")
    shown, labels = wrong[:number], []
    columns = max(5, round((1.8 * len(shown)) ** 0.5))
    max_length = 140 // columns
    for image in shown:
        predicted = truncate(image.predicted, max_length)
        classes = f"{truncate(image.true, max_length)}\n→ {predicted}"
        labels.append(f"{classes}\n{image.index:,}: {image.probability:.3f}")
    note = "true class → predicted class, number of the test image: probability of the prediction"
    with subject.draw("mistakes.png", "the most confident mistakes", note) as figure:
        show_rows(figure, [image.picture for image in shown], labels, columns)
    caption = (
        f"The {len(shown)} most confident of {format_count(len(wrong), 'mistake')}. "
        f"The worst is test image {shown[0].index:,}: {shown[0].verdict}."
    )
    pairs = Counter((image.true, image.predicted) for image in wrong).most_common(MAX_PAIRS)
    rows = []
    for (true, predicted), count in pairs:
        rows.append((truncate(true, 40), truncate(predicted, 40), f"{count:,}"))
    printed = [(f"  {true}", f"taken for {other}", count) for true, other, count in rows[:5]]
    findings = ["most often:", align(printed, right=[2])]
    header = ("true class", "predicted", "mistakes")
    return Section([("mistakes.png", caption)], [header, *rows], findings=findings)


def draw_saliency(subject: Subject, shown: Sequence[ClassifiedImage]) -> Section:
    """Draw input gradients and occlusion maps of the predicted classes."""
    size, logits, columns = subject.size, subject.engine.logits, min(6, len(shown))
    affordable = (MAX_MULTIPLY_ADDS / max(1, subject.multiply_adds * len(shown))) ** 0.5
    places = min(size, max(MIN_PLACES, min(MAX_PLACES, int(affordable))))
    patch = max(1, round(size / 5))
    gradients, drops = [], []
    for classified in shown:
        inputs = subject.engine.inputs(classified.pixels[None])
        gradients.append(compute_input_gradient(logits, inputs))
        drops.append(measure_occlusion(logits, inputs, patch, places))
    # each map has its own scale, of at least 0.01 so that noise does not look like a pattern
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
            labels = [classified.verdict for classified in shown[part]]
            show_row(image, [classified.picture for classified in shown[part]], labels, columns)
            for label, classified in zip(image.get_xticklabels(), shown[part], strict=True):
                label.set_color(classified.color)
            show_row(gradient, gradients[part], [], columns, vmax=None)  # a scale for each image
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
    """Draw a picture for each image, with a row for each layer: its maps or units in one scale."""
    if not layers:
        return Section(note="The network has no layers that give out maps or vectors.")
    drawn, names = [], ", ".join(layer.label for layer in layers)
    engine = subject.engine
    note = "a row for each layer: its name, kind and shape (channels × height × width)"
    for image in shown:
        inputs = engine.inputs(image.pixels[None])
        outputs = record_outputs(
            engine.eval_model,
            engine.logits,
            inputs,
            layers,
            lambda layer, output: output[0].cpu().numpy().copy(),
        )
        file = f"feature_maps_{image.index}.png"
        with subject.draw(file, "feature maps", note) as figure:
            columns = max(MIN_COLUMNS, *map(count_maps, outputs))
            figure.set_figheight(max(4.0, 0.8 + (0.5 + 8 / columns) * len(outputs)))
            mosaic = [["image", row] for row in range(len(layers))]
            axes: Any = figure.subplot_mosaic(mosaic, width_ratios=(1, 5))
            show_row(axes["image"], [image.picture], [], 1)
            verdict = f"test image {image.index:,}\n{image.verdict}"
            axes["image"].set_title(verdict, loc="left", size=8, color=image.color)
            for row, (layer, values) in enumerate(zip(layers, outputs, strict=True)):
                last = show_maps(axes[row], values)
                kind, shape = describe_module(layer.module), format_shape(layer.shape)
                heading = truncate(f"{layer.label} · {kind} · {shape}", 80)
                axes[row].set_title(heading, loc="left", size=9, weight="bold")
                ticks = last.get_clim()
                figure.colorbar(last, ax=axes[row], ticks=ticks, fraction=0.02, **BAR)
        drawn.append((file, f"Test image {image.index:,}: {image.verdict}. Layers: {names}."))
    return Section(drawn)


def draw_kernels(subject: Subject) -> Section:
    """Draw the kernels of the first convolution.

    Without a convolution, draw the weights of the first linear layer if its input is the image.
    """
    convolutions = [layer for layer in subject.layers if isinstance(layer.module, nn.Conv2d)]
    linear = [layer for layer in subject.layers if isinstance(layer.module, nn.Linear)]
    image = (subject.channels, subject.size, subject.size)
    on_image = [layer for layer in linear[:1] if layer.module.in_features == math.prod(image)]
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
    high = max(float(np.abs(pictures).max()), EPSILON)
    scale: dict[str, Any] = {"cmap": DIVERGING, "vmin": -high, "vmax": high}
    if channels == 3:
        highest = np.abs(chosen).max(axis=(1, 2, 3), keepdims=True) + EPSILON
        pictures = np.moveaxis(chosen / highest / 2 + 0.5, 1, -1)
        note = "gray is 0; each kernel has its own scale"
    elif channels > 1:
        mean = f" Shown is the mean over {channels} input channels."
    name = f"{first.label}, {describe_module(first.module)}"
    labels = [str(number) for number in numbers]
    columns = 8 if len(numbers) <= 24 else 16
    with subject.draw("filters.png", f"weights of {name}", note) as figure:
        rows, last = show_rows(figure, pictures, labels, columns, **scale)
        if channels != 3:
            figure.colorbar(last, ax=rows, ticks=(-high, 0, high), label="weight", **LOW)
    choice = f"all {len(values)} kernels"
    if len(numbers) < len(values):
        choice = f"those {len(numbers)} of {len(values):,} kernels with the largest norm"
    return Section([("filters.png", f"{name}: {choice}, numbered by output channel.{mean}")])


def draw_weights(subject: Subject) -> Section:
    """Draw histograms of the weights, without biases and normalization."""
    parameters = subject.engine.eval_model.named_parameters()
    weights = [(name, weight) for name, weight in parameters if weight.ndim > 1]
    histograms = []
    for name, weight in pick_evenly(weights, MAX_HISTOGRAMS):
        histograms.append(make_histogram(name, format_shape(weight.shape), weight.detach()))
    with subject.draw("weights.png", "weights", "without biases and normalization") as figure:
        show_histograms(figure, histograms, "#0072b2", "linear")
    choice = describe_choice(len(histograms), len(weights), "weight tensors")
    return Section([("weights.png", f"{choice}.")])


def draw_activations(subject: Subject, images: torch.Tensor) -> Section:
    """Draw histograms of the outputs of layers over some of the images, uint8 (N, C, H, W)."""
    layers = [layer for layer in subject.layers if not isinstance(layer.module, POOLINGS)]
    if not layers:
        return Section(note="The network has no layers but poolings and normalizations.")
    chosen, engine = images[pick_images(subject, len(images))], subject.engine
    # the share of idle units and the label of each layer, by the kind of idleness
    shares: dict[str, list[tuple[float, str]]] = {DEAD: [], SATURATED: [], "": []}

    def summarize(layer: Traced, outputs: torch.Tensor) -> Histogram:
        kind, share, words = measure_idle(layer.module, outputs)
        shares[kind].append((share, layer.label))
        title = f"{layer.label} · {type(layer.module).__name__}"
        return make_histogram(title, words or f"{format_shape(layer.shape)} units", outputs)

    inputs = engine.inputs(chosen)
    outputs = record_outputs(engine.eval_model, engine.logits, inputs, layers, summarize)
    histograms = pick_evenly(outputs, MAX_HISTOGRAMS)
    meaning = "dead: 0 for each of them; saturated: within 0.01 of the ends"
    note = f"logarithmic counts over {len(chosen):,} test images; {meaning}"
    with subject.draw("activations.png", "outputs of the layers", note) as figure:
        show_histograms(figure, histograms, "#009e73", "symlog")
    choice = describe_choice(len(histograms), len(outputs), "layers")
    caption = f"{choice}, over {len(chosen):,} images, evenly spread over the test set."
    findings = []
    for kind in (DEAD, SATURATED):
        if shares[kind]:
            share, label = max(shares[kind], key=itemgetter(0))
            findings.append(f"{kind}: at most {100 * share:.1f} %, in {label}")
    return Section([("activations.png", caption)], findings=findings)


def pick_images(subject: Subject, number: int) -> list[int]:
    """Return the indices of some of `number` images, evenly spread: fewer for a slow network."""
    affordable = int(MAX_MULTIPLY_ADDS / max(1, subject.multiply_adds))
    return pick_evenly(range(number), max(MIN_BATCH, min(MAX_BATCH, affordable)))


def describe_choice(drawn: int, number: int, noun: str) -> str:
    """Return ``All 5 layers`` or, if only some are drawn, ``2 of 5 layers, evenly chosen``."""
    if drawn == number:
        return f"All {number} {noun}"
    return f"{drawn} of {number:,} {noun}, evenly chosen"
