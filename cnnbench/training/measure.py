"""How long steps take, how much arithmetic they are, and how fast the chip multiplies."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbench.data.resident import Examples
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine

__all__ = ["Timing", "endless_steps", "flops", "matrix_peak", "seconds", "time_rounds"]

WARM_UP_S = 0.5  # and at least two calls
MOST_ROWS = 8192  # in the matrix product that stands for the chip's peak
ROUND_S = 0.3  # a round repeats the call until it takes this long, so that reading the clock costs nothing


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median over rounds, and the quickest and slowest round."""

    median_s: float
    min_s: float
    max_s: float
    rounds: int
    calls_per_round: int

    def as_dict(self, examples: int) -> dict[str, Any]:
        """Plain values, with the rate of a call on so many examples."""
        return {**asdict(self), "examples_per_s": examples / self.median_s}


def time_rounds(call: Callable[[], object], device: Device, rounds: int) -> Timing:
    """Warm up, then time `rounds` rounds of calls, waiting for the device before and after each."""
    warm_up = [seconds(call, device), seconds(call, device)]
    while sum(warm_up) < WARM_UP_S:
        warm_up.append(seconds(call, device))
    calls_per_round = max(1, round(ROUND_S / warm_up[-1]))
    each = [seconds(call, device, calls_per_round) / calls_per_round for _ in range(rounds)]
    return Timing(statistics.median(each), min(each), max(each), rounds, calls_per_round)


def seconds(call: Callable[[], object], device: Device, calls: int = 1) -> float:
    """How long some calls take together, until the device has done what they ask."""
    device.synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    device.synchronize()
    return time.perf_counter() - began


def endless_steps(engine: EagerEngine, train: Examples, batch_size: int) -> Iterator[int]:
    """Training steps on full batches, epoch after epoch."""
    steps = len(train) // batch_size
    while True:
        order = torch.randperm(len(train))[: steps * batch_size]
        yield from engine.steps(train, order, batch_size, [1.0] * steps)


def flops(network: nn.Module, images: torch.Tensor) -> tuple[int, int]:
    """Floating-point operations of a training step (forward and backward) and of inference.

    A multiply-add is two. Convolutions and matrix products are counted, the rest is small; `network` and
    `images` (N, C, H, W) are on the meta device.
    """
    with FlopCounterMode(display=False) as training:
        outputs = network.train()(images)
        logits = outputs if isinstance(outputs, tuple) else (outputs,)
        sum(each.sum() for each in logits).backward()
    with FlopCounterMode(display=False) as inference, torch.no_grad():
        network.eval()(images)
    return training.get_total_flops(), inference.get_total_flops()


def matrix_peak(device: Device, rounds: int) -> float:
    """Floating-point operations per second of a large square matrix product in the device's precision.

    Of 512 rows, and twice as many as long as a product of those takes no more than a tenth of a second.
    """
    size = 512
    while True:
        multiply = _product(size, device)
        seconds(multiply, device)
        if size == MOST_ROWS or 8 * seconds(multiply, device) > 0.1:
            return 2 * size**3 / time_rounds(multiply, device, rounds).min_s
        size *= 2


def _product(size: int, device: Device) -> Callable[[], torch.Tensor]:
    dtype = device.autocast_dtype or device.dtype
    a, b = (torch.randn(size, size, device=device.kind).to(dtype) for _ in range(2))
    return lambda: a @ b
