"""Record the outputs of layers, and summarize outputs and weights by histograms."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cnnbench.analysis.receptive_field import Traced

__all__ = [
    "Array",
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
Key = tuple[str, int]  # name and call of a module
Recorders = Mapping[Key, Callable[[torch.Tensor], None]]

BINS = 60
NEAR = 0.01  # of the ends of a sigmoid or tanh, where its gradient is next to nothing


def pick_evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, most)]


@contextmanager
def _hooked(network: nn.Module, recorders: Recorders) -> Iterator[None]:
    """Give the outputs in the block to the recorders, which are by name and call of a module."""
    calls: Counter[str] = Counter()

    def hook(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        calls[name] += 1
        if (name, calls[name]) in recorders:
            recorders[name, calls[name]](output.detach().float())

    hooks = []
    for name in {name for name, _ in recorders}:
        module = network.get_submodule(name)
        hooks.append(module.register_forward_hook(partial(hook, name)))
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


@torch.inference_mode()
def record_outputs(
    network: nn.Module,
    forward: Forward,
    inputs: torch.Tensor,
    layers: Sequence[Traced],
) -> list[Array]:
    """Return the output of each of `layers` for one input (1, C, S, S): (C, H, W) or (F)."""
    found: dict[Key, Array] = {}

    def record(key: Key, output: torch.Tensor) -> None:
        found[key] = output[0].cpu().numpy().copy()  # what comes next may work in place

    recorders = {layer.key: partial(record, layer.key) for layer in layers}
    with _hooked(network, recorders):
        forward(inputs)
    return [found[layer.key] for layer in layers]


@dataclass(frozen=True)
class Histogram:
    """How many values fall between the edges, of which there is one more; mean and std of all."""

    counts: Array
    edges: Array
    mean: float
    std: float


WeightHistogram = tuple[str, nn.Parameter, Histogram]


@dataclass(frozen=True)
class LayerOutputs:
    """Statistics of what a layer gives out for a batch of images.

    `dead_units` is the share of a ReLU's units that are 0 for each image, `dead_maps` how many of
    its maps are. `saturated` is the share of the outputs of a sigmoid or tanh within 0.01 of its
    ends. None for other layers.
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
        self.range = (math.inf, -math.inf)
        self.sums = np.zeros(3)  # of ones, values and squares
        self.active: torch.Tensor | None = None
        self.saturated: int | None = None
        self.counts: Array | None = None

    def add(self, outputs: torch.Tensor) -> None:
        """Add a batch (N, ...)."""
        low, high = self.range
        self.range = min(low, outputs.min().item()), max(high, outputs.max().item())
        mean, variance = outputs.mean().item(), outputs.var(correction=0).item()
        self.sums += outputs.numel() * np.array([1, mean, variance + mean**2])
        match self.layer.module:
            case nn.ReLU() | nn.ReLU6():
                active = (outputs > 0).any(dim=0)
                self.active = active if self.active is None else self.active | active
            case nn.Sigmoid() | nn.Tanh():
                lowest = 0 if isinstance(self.layer.module, nn.Sigmoid) else -1
                near = (outputs < lowest + NEAR) | (outputs > 1 - NEAR)
                self.saturated = (self.saturated or 0) + int(near.sum())

    def count(self, outputs: torch.Tensor) -> None:
        """Add a batch to the histogram, once the range of all batches is known."""
        low, high = self.range
        if not math.isfinite(low) or not math.isfinite(high):
            self.range = low, high = 0.0, 1.0
        elif low == high:
            self.range = low, high = low - 0.5, low + 0.5
        # on the CPU: on a GPU the result differs by chance
        counts = torch.histc(outputs.cpu(), BINS, low, high).numpy()
        self.counts = counts if self.counts is None else self.counts + counts

    def conclude(self) -> LayerOutputs:
        number, total, squares = self.sums.tolist()
        mean = total / number
        std = math.sqrt(max(0.0, squares / number - mean**2))
        histogram = dead_units = dead_maps = saturated = None
        if self.counts is not None:
            histogram = Histogram(self.counts, np.linspace(*self.range, BINS + 1), mean, std)
        if self.active is not None:
            dead_units = 1 - self.active.float().mean().item()
            if self.active.ndim == 3:
                dead_maps = int((~self.active.flatten(1).any(dim=1)).sum())
        if self.saturated is not None:
            saturated = self.saturated / number
        return LayerOutputs(self.layer, histogram, dead_units, dead_maps, saturated)


@torch.inference_mode()
def summarize_outputs(
    network: nn.Module,
    forward: Forward,
    batches: Callable[[], Iterable[torch.Tensor]],
    layers: Sequence[Traced],
    most_histograms: int,
) -> list[LayerOutputs]:
    """Return the statistics of `layers` over the inputs that `batches` gives at each call.

    At most `most_histograms` have a histogram. The network runs twice, because a histogram needs
    its range first, so that no more than a batch is in memory.
    """
    sums = [_Sums(layer) for layer in layers]
    drawn = pick_evenly(sums, most_histograms)
    for every, add in ((sums, _Sums.add), (drawn, _Sums.count)):
        recorders = {each.layer.key: partial(add, each) for each in every}
        for inputs in batches():
            with _hooked(network, recorders):
                forward(inputs)
    return [each.conclude() for each in sums]


def summarize_weights(network: nn.Module, most: int) -> tuple[list[WeightHistogram], int]:
    """Return histograms of at most so many weights, and how many weights there are.

    Weights are parameters of two or more dimensions.
    """
    weights = [(name, each) for name, each in network.named_parameters() if each.ndim > 1]
    chosen = []
    for name, weight in pick_evenly(weights, most):
        values = weight.detach().cpu().double().numpy()
        finite = values[np.isfinite(values)]
        bins = max(10, min(BINS, math.isqrt(finite.size)))
        counts, edges = np.histogram(finite, bins)
        histogram = Histogram(counts, edges, float(values.mean()), float(values.std()))
        chosen.append((name, weight, histogram))
    return chosen, len(weights)
