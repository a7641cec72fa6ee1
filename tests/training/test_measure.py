"""Timing, counting arithmetic, and the chip's peak."""

import itertools

import pytest
import torch
from torch import nn

from cnnbench.training import measure
from cnnbench.training.device import Device


def test_rounds_are_timed_after_a_warm_up(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count()  # every reading of the clock is a second later
    monkeypatch.setattr(measure.time, "perf_counter", lambda: float(next(now)))
    calls: list[None] = []
    timing = measure.time_rounds(lambda: calls.append(None), device, rounds=3)
    assert (timing.median_s, timing.min_s, timing.max_s) == (1.0, 1.0, 1.0)
    assert len(calls) == 2 + 3


def test_quick_calls_are_repeated_in_a_round(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(now) / 100)
    timing = measure.time_rounds(lambda: None, device, rounds=1)
    assert timing.calls_per_round == 30
    assert timing.median_s == pytest.approx(0.01 / 30)


def test_the_rate_is_examples_over_the_median() -> None:
    assert measure.Timing(0.5, 0.4, 0.9, 3, 1).as_dict(64)["examples_per_s"] == 128


def test_a_linear_layer_counts_two_operations_for_each_multiply_add() -> None:
    with torch.device("meta"):
        network, images = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 4)), torch.empty(5, 1, 4, 4)
    first, second = 2 * 5 * 16 * 8, 2 * 5 * 8 * 4
    # backward: the gradients of both weights, and of the input of the second layer alone
    assert measure.flops(network, images) == (2 * first + 3 * second, first + second)


def test_a_convolution_counts_two_operations_for_each_multiply_add() -> None:
    with torch.device("meta"):
        network, images = nn.Conv2d(1, 3, 3), torch.empty(5, 1, 4, 4)
    forward = 2 * 5 * 3 * 2 * 2 * 9
    assert measure.flops(network, images) == (2 * forward, forward)


def test_the_outputs_of_auxiliary_classifiers_count_in_training() -> None:
    class Twice(nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
            logits = super().forward(images)
            return (logits, super().forward(images)) if self.training else logits

    with torch.device("meta"):
        network, images = Twice(16, 8), torch.empty(5, 16)
    assert measure.flops(network, images) == (4 * 2 * 5 * 16 * 8, 2 * 5 * 16 * 8)


@pytest.mark.parametrize(("seconds", "size"), [(0.001, 1024), (1.0, 512)])
def test_the_peak_is_the_rate_of_a_matrix_product_that_does_not_take_long(
    seconds: float, size: int, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MOST_ROWS", 1024)
    monkeypatch.setattr(measure, "seconds", lambda call, device: seconds)
    monkeypatch.setattr(measure, "time_rounds", lambda call, device, rounds: measure.Timing(2.0, 1.0, 3.0, 1, 1))
    assert measure.matrix_peak(device, 1) == 2 * size**3


def test_steps_go_on_after_an_epoch(device: Device) -> None:
    class Engine:
        def steps(self, examples: object, order: torch.Tensor, batch_size: int, lr_factors: list[float]) -> object:
            assert len(order) == len(lr_factors) * batch_size
            return iter([batch_size] * len(lr_factors))

    steps = measure.endless_steps(Engine(), range(21), 8)  # type: ignore[arg-type]  # stand-ins
    assert list(itertools.islice(steps, 5)) == [8] * 5
