"""How long steps take, how much arithmetic they are, and how fast the chip multiplies."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Timing", "count_flops", "measure_matrix_peak", "time_calls", "time_rounds"]

WARM_UP_S = 0.5  # and at least two calls
MAX_ROWS = 8192  # in the matrix product that stands for the chip's peak
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


def time_rounds(call: Callable[[], object], synchronize: Callable[[], None], rounds: int) -> Timing:
    """Warm up, then time `rounds` rounds of calls; `synchronize` waits for the device."""
    warm_up = [time_calls(call, synchronize), time_calls(call, synchronize)]
    while sum(warm_up) < WARM_UP_S:
        warm_up.append(time_calls(call, synchronize))
    calls_per_round = max(1, round(ROUND_S / warm_up[-1]))
    each = [time_calls(call, synchronize, calls_per_round) / calls_per_round for _ in range(rounds)]
    return Timing(statistics.median(each), min(each), max(each), rounds, calls_per_round)


def time_calls(
    call: Callable[[], object], synchronize: Callable[[], None], calls: int = 1
) -> float:
    """Return the seconds that some calls take together, until the device has done them."""
    synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize()
    return time.perf_counter() - began


def count_flops(network: nn.Module, images: torch.Tensor) -> tuple[int, int]:
    """Count the floating-point operations of a training step and of inference.

    A step is forward and backward; a multiply-add is two operations. Convolutions and matrix
    products are counted, the rest is small. `network` and `images` (N, C, H, W) are on the meta
    device.
    """
    with FlopCounterMode(display=False) as training:
        outputs = network.train()(images)
        logits = outputs if isinstance(outputs, tuple) else (outputs,)
        sum(each.sum() for each in logits).backward()
    with FlopCounterMode(display=False) as inference, torch.no_grad():
        network.eval()(images)
    return training.get_total_flops(), inference.get_total_flops()


def measure_matrix_peak(
    device: torch.device, dtype: torch.dtype, synchronize: Callable[[], None], rounds: int
) -> float:
    """Return the floating-point operations per second of a large square matrix product.

    It has 512 rows, doubled as long as a product takes no more than a tenth of a second.
    """
    size = 512
    while True:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        multiply = partial(torch.matmul, a, b)
        time_calls(multiply, synchronize)
        if size == MAX_ROWS or 8 * time_calls(multiply, synchronize) > 0.1:
            return 2 * size**3 / time_rounds(multiply, synchronize, rounds).min_s
        size *= 2
