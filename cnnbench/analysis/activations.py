"""Record the outputs of layers, and measure the share of dead and saturated units."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from cnnbench.analysis.receptive_field import Traced, watch_calls

__all__ = ["DEAD", "SATURATED", "measure_idle", "pick_evenly", "record_outputs"]

T = TypeVar("T")

# This close to an end of a sigmoid or tanh, the gradient is almost zero.
SATURATION_MARGIN = 0.01
DEAD = "dead units of ReLU"
SATURATED = "saturated outputs of sigmoid and tanh"


def pick_evenly(items: Sequence[T], max_items: int) -> list[T]:
    """Return at most `max_items` of the items, evenly spread, with the first and the last."""
    if len(items) <= max_items:
        return list(items)
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, max_items)]


@torch.inference_mode()
def record_outputs(
    network: nn.Module,
    forward: Callable[[torch.Tensor], object],
    inputs: torch.Tensor,
    layers: Sequence[Traced],
    reduce: Callable[[Traced, torch.Tensor], T],
) -> list[T]:
    """Return `reduce(layer, output)` for each of `layers`, in their order.

    `forward` runs the network on the inputs (N, C, S, S). `reduce` is called before the next layer
    runs, because that layer may change the output in place.
    """
    by_label = {layer.label: layer for layer in layers}
    found: dict[str, T] = {}

    def record(name: str, label: str, module: nn.Module, output: torch.Tensor) -> None:
        if label in by_label:
            found[label] = reduce(by_label[label], output.float())

    with watch_calls(network, record):
        forward(inputs)
    return [found[label] for label in by_label]


def measure_idle(module: nn.Module, outputs: torch.Tensor) -> tuple[str, float, str]:
    """Return the kind of idle units (`DEAD` or `SATURATED`), their share, and a description.

    `outputs` (N, ...) are those of `module`. A unit of a ReLU is dead if it is 0 for all images.
    An output of a sigmoid or tanh is saturated within 0.01 of its ends. For other layers the result
    is ("", 0.0, "").
    """
    match module:
        case nn.ReLU() | nn.ReLU6():
            is_dead = ~(outputs > 0).any(dim=0)
            share = is_dead.float().mean().item()
            words = f"dead: {100 * share:.1f} % of units"
            if is_dead.ndim == 3:
                words += f", {is_dead.flatten(1).all(dim=1).sum()} of {len(is_dead)} maps"
            return DEAD, share, words
        case nn.Sigmoid() | nn.Tanh():
            lowest = 0 if isinstance(module, nn.Sigmoid) else -1
            is_low, is_high = outputs < lowest + SATURATION_MARGIN, outputs > 1 - SATURATION_MARGIN
            share = (is_low | is_high).float().mean().item()
            return SATURATED, share, f"saturated: {100 * share:.1f} %"
    return "", 0.0, ""
