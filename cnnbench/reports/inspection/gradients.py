"""The section on gradients: the norm of the gradient of the loss, layer by layer."""

import math

import torch

from cnnbench.analysis.activations import pick_evenly
from cnnbench.analysis.format import truncate
from cnnbench.analysis.gradient_norms import measure_gradient_norms
from cnnbench.data.device_data import Examples
from cnnbench.reports.inspection.sections import Section, Subject, describe_choice, pick_images

__all__ = ["draw_gradients"]

MAX_BARS = 24
PURPLE = "#cc79a7"


def draw_gradients(subject: Subject, test: Examples) -> Section:
    """Draw the norms of the gradients by the weights as bars, in the order in which layers run.

    The loss is the mean over some of the test images.
    """
    engine, chosen = subject.engine, pick_images(subject, len(test))

    def loss(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return engine.loss(engine.logits(inputs), labels)

    inputs, labels = engine.inputs(test.images[chosen]), test.labels[chosen]
    norms = measure_gradient_norms(engine.eval_model, loss, inputs, labels)
    if not norms:
        return Section(note="The network has no weights but biases and normalization.")
    places = {layer.name: place for place, layer in enumerate(subject.layers)}
    names = sorted(norms, key=lambda name: places.get(name.rpartition(".")[0], len(places)))
    bars = [(name.removesuffix(".weight"), norms[name]) for name in names]
    drawn = pick_evenly(bars, MAX_BARS)
    _draw_bars(subject, drawn, f"mean loss over {len(chosen):,} test images; logarithmic scale")
    choice = describe_choice(len(drawn), len(bars), "weight tensors")
    caption = f"{choice}, over {len(chosen):,} images, evenly spread over the test set."
    (first, low), (last, high) = bars[0], bars[-1]
    found = f"gradient norm: {low:.2g} in {first}, the first layer, {high:.2g} in {last}, the last"
    return Section([("gradients.png", caption)], findings=[found])


def _draw_bars(subject: Subject, bars: list[tuple[str, float]], note: str) -> None:
    """Draw a bar for each name and value, from top to bottom."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    shown = [value for _, value in bars if 0 < value < math.inf] or [1.0]
    start = 10.0 ** math.floor(math.log10(min(shown) / 1.5))
    end = 10.0 ** math.ceil(math.log10(max(shown) * 1.5))
    with subject.draw("gradients.png", "norms of gradients", note) as figure:
        figure.set_figheight(1.2 + 0.3 * len(bars))
        axes = figure.subplots()
        axes.set(xscale="log", xlim=(start, end), ylim=(len(bars) - 0.5, -0.5))
        for place, (_, value) in enumerate(bars):
            length = value - start if 0 < value < math.inf else 0.0
            axes.barh(place, length, 0.7, start, color=PURPLE)
            axes.text(start + length, place, f" {value:.2g}", va="center", size=8)
        axes.set_yticks(range(len(bars)), [truncate(name, 36) for name, _ in bars], size=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.spines[["right", "top"]].set_visible(False)
        axes.set_xlabel("Euclidean norm of the gradient of the loss by the weights", size=8)
