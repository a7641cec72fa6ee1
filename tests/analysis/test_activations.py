"""What layers give out and hold, as numbers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cnnbench.analysis.activations import (
    LayerOutputs,
    pick_evenly,
    record_outputs,
    summarize_outputs,
    summarize_weights,
)
from cnnbench.analysis.receptive_field import Traced, trace

IMAGES = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def outputs_of(network: nn.Module) -> list[Any]:
    """The outputs of each call of a layer for `IMAGES`, in the order they run."""
    layers = trace(network.to("meta"), torch.empty(1, 1, 6, 6, device="meta"))
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))

    def copy(layer: Traced, output: torch.Tensor) -> tuple[str, torch.Tensor]:
        return layer.label, output.clone()

    found = record_outputs(network, network, IMAGES, layers, copy)
    assert [label for label, _ in found] == [layer.label for layer in layers]
    return [output for _, output in found]


def test_outputs_are_those_of_the_layers_before_what_comes_next_changes_them() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    convolved, rectified, pooled = outputs_of(network)
    expected = network[0](IMAGES)
    assert (convolved < 0).any()
    torch.testing.assert_close(convolved, expected)
    torch.testing.assert_close(rectified, expected.relu())
    torch.testing.assert_close(pooled, nn.MaxPool2d(2)(expected.relu()))


def test_outputs_of_each_call_of_a_layer_are_told_apart() -> None:
    again = nn.Conv2d(1, 1, 3)
    first, second = outputs_of(nn.Sequential(again, again))
    torch.testing.assert_close(first, again(IMAGES))
    torch.testing.assert_close(second, again(again(IMAGES)))


def summarize(last: nn.Module, inputs: torch.Tensor) -> LayerOutputs:
    layer = Traced("last", 1, last, tuple(inputs.shape[1:]), None)
    return summarize_outputs(layer, last(inputs))


def test_a_histogram_has_the_mean_std_and_counts_of_all_values() -> None:
    values = torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = summarize(nn.Identity(), values).histogram
    moments = (values.mean().item(), values.std(correction=0).item())
    assert (found.mean, found.std) == pytest.approx(moments, abs=1e-6)
    counts, edges = np.histogram(values.numpy(), 60)
    np.testing.assert_allclose(found.edges, edges, atol=1e-6)
    assert found.counts.sum() == values.numel()
    assert np.abs(found.counts - counts).sum() <= 4  # values at an edge


@pytest.mark.parametrize("value", [0.0, 7.0, math.nan, math.inf])
def test_a_layer_of_one_value_has_a_histogram_too(value: float) -> None:
    histogram = summarize(nn.Identity(), torch.full((3, 2), value)).histogram
    assert histogram.edges[0] < histogram.edges[-1]
    assert histogram.counts.sum() == (6 if math.isfinite(value) else 0)


def test_dead_units_and_maps_are_those_that_are_zero_for_each_image() -> None:
    outputs = -torch.ones(7, 3, 2, 2)
    outputs[6, 0, 0, 0] = 1.0  # active once
    outputs[0, 1] = 1.0
    found = summarize(nn.ReLU(), outputs)
    expected = (pytest.approx(7 / 12), 1, None)
    assert (found.dead_units, found.dead_maps, found.saturated) == expected


def test_a_vector_has_dead_units_but_no_maps() -> None:
    found = summarize(nn.ReLU6(), torch.tensor([[-1.0, 1.0, -1.0, -1.0]]))
    assert (found.dead_units, found.dead_maps) == (0.75, None)


@pytest.mark.parametrize(
    ("last", "values", "share"),
    [
        (nn.Sigmoid(), [-5.0, 5.0, 0.0, 4.0], 0.5),
        (nn.Tanh(), [-3.0, 3.0, 2.0, 0.0], 0.5),
        (nn.Tanh(), [0.001, 0.0, 0.5, -0.5], 0.0),
        (nn.Identity(), [0.0, 1.0, 0.0, 1.0], None),
    ],
)
def test_saturated_are_outputs_near_the_ends(last: nn.Module, values: Any, share: Any) -> None:
    found = summarize(last, torch.tensor([values] * 2))
    assert (found.saturated, found.dead_units) == (share, None)


def test_a_weight_has_a_histogram() -> None:
    weight = nn.Parameter(torch.randn(20, 25))
    histogram = summarize_weights(weight)
    moments = (weight.mean().item(), weight.std(correction=0).item(), 500)
    assert (histogram.mean, histogram.std, histogram.counts.sum()) == pytest.approx(moments)
    histogram = summarize_weights(nn.Parameter(torch.full((4, 3), math.nan)))
    assert (histogram.counts.sum(), math.isnan(histogram.mean)) == (0, True)


def test_some_are_chosen_evenly_with_both_ends() -> None:
    assert (pick_evenly(range(10), 4), pick_evenly("abc", 4)) == ([0, 3, 6, 9], ["a", "b", "c"])
