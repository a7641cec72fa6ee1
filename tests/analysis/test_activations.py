"""Recorded outputs of layers, and shares of dead and saturated units."""

from typing import Any

import pytest
import torch
from torch import nn

from cnnbench.analysis.activations import (
    DEAD,
    SATURATED,
    measure_idle,
    pick_evenly,
    record_outputs,
)
from cnnbench.analysis.receptive_field import Traced, trace

IMAGES = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def outputs_of(network: nn.Module) -> list[Any]:
    """Return the outputs of all calls of layers for `IMAGES`, in the order in which they run."""
    layers = trace(network.to("meta"), torch.empty(1, 1, 6, 6, device="meta"))
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))

    def copy(layer: Traced, output: torch.Tensor) -> tuple[str, torch.Tensor]:
        return layer.label, output.clone()

    found = record_outputs(network, network, IMAGES, layers, copy)
    assert [label for label, _ in found] == [layer.label for layer in layers]
    return [output for _, output in found]


def test_outputs_are_recorded_before_in_place_changes() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    convolved, rectified, pooled = outputs_of(network)
    expected = network[0](IMAGES)
    assert (convolved < 0).any()
    torch.testing.assert_close(convolved, expected)
    torch.testing.assert_close(rectified, expected.relu())
    torch.testing.assert_close(pooled, nn.MaxPool2d(2)(expected.relu()))


def test_calls_of_one_layer_are_recorded_separately() -> None:
    conv = nn.Conv2d(1, 1, 3)
    first, second = outputs_of(nn.Sequential(conv, conv))
    torch.testing.assert_close(first, conv(IMAGES))
    torch.testing.assert_close(second, conv(conv(IMAGES)))


def test_units_that_are_zero_for_all_images_are_dead() -> None:
    outputs = torch.zeros(7, 3, 2, 2)
    outputs[6, 0, 0, 0] = 1.0  # active for one image
    outputs[0, 1] = 1.0
    expected = (DEAD, pytest.approx(7 / 12), "dead: 58.3 % of units, 1 of 3 maps")
    assert measure_idle(nn.ReLU(), outputs) == expected
    vector = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    assert measure_idle(nn.ReLU6(), vector) == (DEAD, 0.75, "dead: 75.0 % of units")


@pytest.mark.parametrize(
    ("last", "values", "share"),
    [
        (nn.Sigmoid(), [0.009, 0.991, 0.5, 0.989], 0.5),
        (nn.Tanh(), [-0.991, 0.991, 0.995, 0.0], 0.75),
        (nn.Tanh(), [0.001, 0.0, 0.5, -0.5], 0.0),
    ],
)
def test_outputs_near_ends_are_saturated(last: nn.Module, values: Any, share: float) -> None:
    found = measure_idle(last, torch.tensor([values] * 2))
    assert found == (SATURATED, share, f"saturated: {100 * share:.1f} %")


def test_other_layers_are_neither_dead_nor_saturated() -> None:
    assert measure_idle(nn.Identity(), torch.zeros(2, 3)) == ("", 0.0, "")


def test_pick_evenly_keeps_both_ends() -> None:
    assert (pick_evenly(range(10), 4), pick_evenly("abc", 4)) == ([0, 3, 6, 9], ["a", "b", "c"])
