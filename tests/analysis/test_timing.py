"""The time of calls, floating-point operations, and the peak of the chip."""

import itertools

import pytest
import torch
from torch import nn

from cnnbench.analysis import timing


def wait() -> None:
    """Return at once, as for a device without queued work."""


def test_rounds_are_timed_after_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()  # each reading is a second later
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    calls: list[None] = []
    taken = timing.time_rounds(lambda: calls.append(None), wait, rounds=3)
    assert (taken.median_s, taken.min_s, taken.max_s) == (1.0, 1.0, 1.0)
    assert len(calls) == 2 + 3


def test_round_repeats_fast_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock) / 100)
    taken = timing.time_rounds(lambda: None, wait, rounds=1)
    assert taken.calls_per_round == 30
    assert taken.median_s == pytest.approx(0.01 / 30)


def test_rate_uses_median() -> None:
    assert timing.Timing(0.5, 0.4, 0.9, 3, 1).as_dict(64)["examples_per_s"] == 128


def test_linear_layer_counts_two_operations_per_multiply_add() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 4))
        images = torch.empty(5, 1, 4, 4)
    first, second = 2 * 5 * 16 * 8, 2 * 5 * 8 * 4
    # The backward pass computes the gradients of both weights and of the second layer's input.
    assert timing.count_flops(network, images) == (2 * first + 3 * second, first + second)


def test_convolution_counts_two_operations_per_multiply_add() -> None:
    with torch.device("meta"):
        network, images = nn.Conv2d(1, 3, 3), torch.empty(5, 1, 4, 4)
    forward = 2 * 5 * 3 * 2 * 2 * 9
    assert timing.count_flops(network, images) == (2 * forward, forward)


def test_flops_of_training_include_auxiliary_outputs() -> None:
    class Twice(nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
            logits = super().forward(images)
            return (logits, super().forward(images)) if self.training else logits

    with torch.device("meta"):
        network, images = Twice(16, 8), torch.empty(5, 16)
    assert timing.count_flops(network, images) == (4 * 2 * 5 * 16 * 8, 2 * 5 * 16 * 8)


@pytest.mark.parametrize(("seconds", "size"), [(0.001, 1024), (1.0, 512)])
def test_matrix_peak_uses_largest_product_below_time_limit(
    seconds: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "MAX_ROWS", 1024)
    monkeypatch.setattr(timing, "time_calls", lambda call, synchronize: seconds)
    monkeypatch.setattr(timing, "time_rounds", lambda *_: timing.Timing(2.0, 1.0, 3.0, 1, 1))
    assert timing.measure_matrix_peak(torch.device("cpu"), torch.float32, wait, 1) == 2 * size**3
