"""Record the outputs of layers, and summarize outputs and weights by histograms."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cnnbench.analysis.receptive_field import Traced

__all__ = [
    "Forward",
    "Histogram",
    "LayerOutputs",
    "pick_evenly",
    "record_outputs",
    "summarize_outputs",
    "summarize_weights",
]

T = TypeVar("T")

Forward = Callable[[torch.Tensor], object]  # runs a network once, on inputs (N, C, S, S)
Array = npt.NDArray[Any]

BINS = 60
NEAR = 0.01  # of the ends of a sigmoid or tanh, where its gradient is next to nothing


def pick_evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, most)]


@contextmanager
def _record_outputs_of(
    network: nn.Module, layers: Sequence[Traced], record: Callable[[int, torch.Tensor], None]
) -> Iterator[None]:
    """Record the output of each of `layers` in the block, with its place among them."""
    places = {layer.key: place for place, layer in enumerate(layers)}
    calls: Counter[str] = Counter()

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1
            if (name, calls[name]) in places:
                record(places[name, calls[name]], output.detach().float())

        return hook

    names = dict.fromkeys(layer.name for layer in layers)
    hooks = [network.get_submodule(name).register_forward_hook(hook_for(name)) for name in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def record_outputs(
    network: nn.Module,
    forward: Forward,
    inputs: torch.Tensor,
    layers: Sequence[Traced],
) -> list[Array]:
    """Return the output of each of `layers` for one input (1, C, S, S): (C, H, W) or (F)."""
    found: dict[int, Array] = {}

    def record(place: int, output: torch.Tensor) -> None:
        found[place] = output[0].cpu().numpy().copy()  # what comes next may work in place

    with _record_outputs_of(network, layers, record):
        forward(inputs)
    return [found[place] for place in range(len(layers))]


@dataclass(frozen=True)
class Histogram:
    """How many values fall between the edges, of which there is one more; mean and standard deviation of all."""

    counts: Array
    edges: Array
    mean: float
    std: float


@dataclass(frozen=True)
class LayerOutputs:
    """Statistics of what a layer gives out for a batch of images.

    `dead_units` is the share of a ReLU's units that are 0 for each image, `dead_maps` how many of its maps are.
    `saturated` is the share of the outputs of a sigmoid or tanh within 0.01 of its ends. None for other layers.
    """

    layer: Traced
    histogram: Histogram | None
    dead_units: float | None
    dead_maps: int | None
    saturated: float | None


class _Sums:
    """Sums over batches, from which the statistics of a layer come."""

    def __init__(self, layer: Traced) -> None:
        self.layer = layer
        self.low, self.high = math.inf, -math.inf
        self.values, self.sum, self.squares, self.near_the_ends = 0, 0.0, 0.0, 0
        self.was_active: torch.Tensor | None = None
        self.counts: Array | None = None

    def add(self, outputs: torch.Tensor) -> None:
        """Add those of a batch (N, ...)."""
        self.low, self.high = min(self.low, outputs.min().item()), max(self.high, outputs.max().item())
        mean, variance = outputs.mean().item(), outputs.var(correction=0).item()
        self.values += outputs.numel()
        self.sum += mean * outputs.numel()
        self.squares += (variance + mean**2) * outputs.numel()
        match self.layer.module:
            case nn.ReLU() | nn.ReLU6():
                active = (outputs > 0).any(dim=0)
                self.was_active = active if self.was_active is None else self.was_active | active
            case nn.Sigmoid():
                self.near_the_ends += int(((outputs < NEAR) | (outputs > 1 - NEAR)).sum())
            case nn.Tanh():
                self.near_the_ends += int((outputs.abs() > 1 - NEAR).sum())

    @property
    def ends(self) -> tuple[float, float]:
        """Of the histogram: the values may all be the same, or none of them a number."""
        if not math.isfinite(self.low) or not math.isfinite(self.high):
            return 0.0, 1.0
        return (self.low, self.high) if self.low < self.high else (self.low - 0.5, self.low + 0.5)

    def count(self, outputs: torch.Tensor) -> None:
        """Add a batch to the histogram, once `ends` are known."""
        counts = torch.histc(outputs.cpu(), BINS, *self.ends).numpy()  # not on a GPU, where there is chance in it
        self.counts = counts if self.counts is None else self.counts + counts

    def conclude(self) -> LayerOutputs:
        mean = self.sum / self.values
        std = math.sqrt(max(0.0, self.squares / self.values - mean**2))
        dead_units, dead_maps = None, None
        if self.was_active is not None:
            dead_units = 1 - self.was_active.float().mean().item()
            dead_maps = int((~self.was_active.flatten(1).any(dim=1)).sum()) if self.was_active.ndim == 3 else None
        ended = isinstance(self.layer.module, (nn.Sigmoid, nn.Tanh))
        saturated = self.near_the_ends / self.values if ended else None
        edges = np.linspace(*self.ends, BINS + 1)
        histogram = None if self.counts is None else Histogram(self.counts, edges, mean, std)
        return LayerOutputs(self.layer, histogram, dead_units, dead_maps, saturated)


@torch.inference_mode()
def summarize_outputs(
    network: nn.Module,
    forward: Forward,
    batches: Callable[[], Iterable[torch.Tensor]],
    layers: Sequence[Traced],
    most_histograms: int,
) -> list[LayerOutputs]:
    """The statistics of `layers` over the inputs that `batches` gives, the same ones each time; some with histograms.

    They run twice, as a histogram wants to know its ends first. In memory is one batch.
    """
    sums = [_Sums(layer) for layer in layers]
    with_histogram = pick_evenly(sums, most_histograms)
    for inputs in batches():
        with _record_outputs_of(network, layers, lambda place, outputs: sums[place].add(outputs)):
            forward(inputs)
    drawn = [each.layer for each in with_histogram]
    for inputs in batches():
        with _record_outputs_of(network, drawn, lambda place, outputs: with_histogram[place].count(outputs)):
            forward(inputs)
    return [each.conclude() for each in sums]


def summarize_weights(network: nn.Module, most: int) -> tuple[list[tuple[str, nn.Parameter, Histogram]], int]:
    """Return histograms of at most so many weights, and how many weights there are.

    Weights are parameters of two or more dimensions.
    """
    weights = [(name, each) for name, each in network.named_parameters() if each.ndim > 1]
    chosen = []
    for name, weight in pick_evenly(weights, most):
        values = weight.detach().cpu().double().numpy()
        finite = values[np.isfinite(values)]
        counts, edges = np.histogram(finite, max(10, min(BINS, math.isqrt(finite.size))))
        chosen.append((name, weight, Histogram(counts, edges, float(values.mean()), float(values.std()))))
    return chosen, len(weights)
