"""Record the outputs of layers, and tell which do nothing."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from cnnbench.analysis.receptive_field import Traced, watch_calls

__all__ = ["DEAD", "SATURATED", "measure_idle", "pick_evenly", "record_outputs"]

T = TypeVar("T")

NEAR = 0.01  # of the ends of a sigmoid or tanh, where its gradient is next to nothing
DEAD = "dead units of ReLU"
SATURATED = "saturated outputs of sigmoid and tanh"


def pick_evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, most)]


@torch.inference_mode()
def record_outputs(
    network: nn.Module,
    forward: Callable[[torch.Tensor], object],
    inputs: torch.Tensor,
    layers: Sequence[Traced],
    reduce: Callable[[Traced, torch.Tensor], T],
) -> list[T]:
    """Return what `reduce` makes of each of `layers` and its output for the inputs (N, C, S, S).

    It is called before the layers that follow, which may change the output in place. `forward`
    runs the network.
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
    """Return `DEAD` or `SATURATED`, the share of the outputs (N, ...) that are, and that in words.

    A unit of a ReLU is dead if it is 0 for each image. Outputs of a sigmoid or tanh are saturated
    within 0.01 of its ends. Of other layers all of that is empty.
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
            is_near = (outputs < lowest + NEAR) | (outputs > 1 - NEAR)
            share = is_near.float().mean().item()
            return SATURATED, share, f"saturated: {100 * share:.1f} %"
    return "", 0.0, ""
