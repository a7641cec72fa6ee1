"""The time of training steps, their floating-point operations, and the peak of the chip."""

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

WARM_UP_S = 0.5  # a warm-up takes at least this long, and at least two calls
MAX_ROWS = 8192  # rows of the matrix product that measures the peak of the chip
ROUND_S = 0.3  # a round repeats a call about this long, so that reading the clock costs nothing


@dataclass(frozen=True)
class Timing:
    """The seconds of one call: the median over rounds, the fastest and the slowest round."""

    median_s: float
    min_s: float
    max_s: float
    rounds: int
    calls_per_round: int

    def as_dict(self, examples: int) -> dict[str, Any]:
        """Return the fields and `examples_per_s`, if a call takes that number of examples."""
        return {**asdict(self), "examples_per_s": examples / self.median_s}


def time_rounds(call: Callable[[], object], synchronize: Callable[[], None], rounds: int) -> Timing:
    """Return the times of `rounds` rounds of calls after a warm-up.

    `synchronize` waits for the device.
    """
    warm_up = [time_calls(call, synchronize), time_calls(call, synchronize)]
    while sum(warm_up) < WARM_UP_S:
        warm_up.append(time_calls(call, synchronize))
    calls_per_round = max(1, round(ROUND_S / warm_up[-1]))
    seconds = []
    for _ in range(rounds):
        seconds.append(time_calls(call, synchronize, calls_per_round) / calls_per_round)
    return Timing(statistics.median(seconds), min(seconds), max(seconds), rounds, calls_per_round)


def time_calls(
    call: Callable[[], object], synchronize: Callable[[], None], calls: int = 1
) -> float:
    """Return the seconds that all calls take together, until the device has finished them."""
    synchronize()
    began_at = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize()
    return time.perf_counter() - began_at


def count_flops(network: nn.Module, images: torch.Tensor) -> tuple[int, int]:
    """Return the floating-point operations of a training step and of inference.

    A step is a forward and a backward pass. A multiply-add is two operations. Only convolutions and
    matrix products are counted: the other operations are few. `network` and `images` (N, C, H, W)
    are on the meta device.
    """
    with FlopCounterMode(display=False) as training:
        outputs = network.train()(images)
        logits = outputs if isinstance(outputs, tuple) else (outputs,)
        sum(output.sum() for output in logits).backward()
    with FlopCounterMode(display=False) as inference, torch.no_grad():
        network.eval()(images)
    return training.get_total_flops(), inference.get_total_flops()


def measure_matrix_peak(
    device: torch.device, dtype: torch.dtype, synchronize: Callable[[], None], rounds: int
) -> float:
    """Return the floating-point operations per second of a large square matrix product.

    The number of rows starts at 512 and doubles as long as the next product would take at most a
    tenth of a second.
    """
    size = 512
    while True:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        multiply = partial(torch.matmul, a, b)
        time_calls(multiply, synchronize)
        if size == MAX_ROWS or 8 * time_calls(multiply, synchronize) > 0.1:
            return 2 * size**3 / time_rounds(multiply, synchronize, rounds).min_s
        size *= 2
