"""Record the outputs of layers, and summarize outputs and weights by histograms."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

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

BINS = 60
NEAR = 0.01  # of the ends of a sigmoid or tanh, where its gradient is next to nothing


def pick_evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, most)]


@torch.inference_mode()
def record_outputs(
    network: nn.Module,
    forward: Forward,
    inputs: torch.Tensor,
    layers: Sequence[Traced],
    reduce: Callable[[Traced, torch.Tensor], T],
) -> list[T]:
    """Return what `reduce` makes of each of `layers` and its output for the inputs (N, C, S, S).

    It is called before the layers that follow, which may change the output in place.
    """
    names = {module: name for name, module in network.named_modules()}
    by_call = {(layer.name, layer.call): layer for layer in layers}
    calls: Counter[str] = Counter()
    found: dict[Traced, T] = {}

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        name = names.get(module, "")
        calls[name] += 1
        layer = by_call.get((name, calls[name]))
        if layer is not None:
            found[layer] = reduce(layer, output.float())

    with register_module_forward_hook(record):
        forward(inputs)
    return [found[layer] for layer in layers]


@dataclass(frozen=True)
class Histogram:
    """How many values fall between the edges, of which there is one more; mean and std of all."""

    counts: Array
    edges: Array
    mean: float
    std: float


@dataclass(frozen=True)
class LayerOutputs:
    """Statistics of what a layer gives out for a batch of images.

    `dead_units` is the share of a ReLU's units that are 0 for each image, `dead_maps` how many of
    its maps are. `saturated` is the share of the outputs of a sigmoid or tanh within 0.01 of its
    ends. None for other layers.
    """

    layer: Traced
    histogram: Histogram
    dead_units: float | None
    dead_maps: int | None
    saturated: float | None


def _histogram(values: torch.Tensor, bins: int = BINS) -> Histogram:
    std, mean = torch.std_mean(values, correction=0)
    low, high = values.min().item(), values.max().item()
    if not math.isfinite(high - low):
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 0.5, low + 0.5
    # on the CPU: on a GPU the result differs by chance
    counts = torch.histc(values.cpu(), bins, low, high).numpy()
    return Histogram(counts, np.linspace(low, high, bins + 1), mean.item(), std.item())


def summarize_outputs(layer: Traced, outputs: torch.Tensor) -> LayerOutputs:
    """Return the statistics of the outputs (N, ...) of a layer."""
    dead_units = dead_maps = saturated = None
    match layer.module:
        case nn.ReLU() | nn.ReLU6():
            is_dead = ~(outputs > 0).any(dim=0)
            dead_units = is_dead.float().mean().item()
            if is_dead.ndim == 3:
                dead_maps = int(is_dead.flatten(1).all(dim=1).sum())
        case nn.Sigmoid() | nn.Tanh():
            lowest = 0 if isinstance(layer.module, nn.Sigmoid) else -1
            is_near = (outputs < lowest + NEAR) | (outputs > 1 - NEAR)
            saturated = is_near.float().mean().item()
    return LayerOutputs(layer, _histogram(outputs), dead_units, dead_maps, saturated)


def summarize_weights(weight: nn.Parameter) -> Histogram:
    """Return the histogram of a weight, with as many bins as fit its size."""
    bins = max(10, min(BINS, math.isqrt(weight.numel())))
    return _histogram(weight.detach().cpu().double(), bins)
