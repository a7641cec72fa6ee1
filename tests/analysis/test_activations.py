"""What layers give out and hold, as numbers."""

import math
from collections.abc import Iterator

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


def traced(network: nn.Module, size: int = 6) -> list[Traced]:
    with torch.device("meta"):
        return trace(network, torch.empty(1, 1, size, size))


def images(number: int, size: int = 6) -> torch.Tensor:
    return torch.randn(number, 1, size, size, generator=torch.Generator().manual_seed(0))


def pairs(network: nn.Module) -> tuple[nn.Module, list[Traced]]:
    """The network, with weights, and what is traced of its twin."""
    layers = traced(network.to("meta"))
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return network.eval(), [layer for layer in layers if layer.is_layer]


def statistics(network: nn.Module, layers: list[Traced], inputs: torch.Tensor, most: int = 24) -> list[LayerOutputs]:
    def batches() -> Iterator[torch.Tensor]:
        yield from inputs.split(5)

    return summarize_outputs(network, network, batches, layers, most)


def test_outputs_are_those_of_the_layers_before_what_comes_next_changes_them() -> None:
    network, layers = pairs(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)))
    convolved, rectified, pooled = record_outputs(network, network, images(1), layers)
    expected = network[0](images(1))[0].detach()
    assert (convolved < 0).any()
    np.testing.assert_allclose(convolved, expected)
    np.testing.assert_allclose(rectified, expected.relu())
    np.testing.assert_allclose(pooled, nn.MaxPool2d(2)(expected.relu()))


def test_outputs_of_each_call_of_a_layer_are_told_apart() -> None:
    again = nn.Conv2d(1, 1, 3)
    network, layers = pairs(nn.Sequential(again, again))
    first, second = record_outputs(network, network, images(1), layers)
    np.testing.assert_allclose(first, again(images(1))[0].detach())
    np.testing.assert_allclose(second, again(again(images(1)))[0].detach())


def test_no_hooks_are_left() -> None:
    network, layers = pairs(nn.Sequential(nn.Conv2d(1, 1, 3)))
    with pytest.raises(ZeroDivisionError):
        record_outputs(network, lambda inputs: 1 / 0, images(1), layers)
    assert not network[0]._forward_hooks


def test_mean_deviation_and_counts_are_those_of_all_images() -> None:
    network, layers = pairs(nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh()))
    for found, values in zip(
        statistics(network, layers, images(13)), (network[0](images(13)), network(images(13))), strict=True
    ):
        histogram = found.histogram
        assert histogram is not None
        assert (histogram.mean, histogram.std) == pytest.approx(
            (values.mean().item(), values.std(correction=0).item()), abs=1e-6
        )
        assert (histogram.counts.sum(), histogram.edges[0], histogram.edges[-1]) == (
            values.numel(),
            pytest.approx(values.min().item()),
            pytest.approx(values.max().item()),
        )
        expected, _ = np.histogram(values.detach().numpy(), histogram.edges)
        assert np.abs(histogram.counts - expected).sum() <= 4  # values at an edge


class Fixed(nn.Module):
    """Gives out what it holds, for each image its own."""

    def __init__(self, outputs: torch.Tensor, last: nn.Module) -> None:
        super().__init__()
        self.outputs, self.last = outputs, last

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.outputs[images[:, 0, 0, 0].long()])
        return out


def of_fixed(outputs: torch.Tensor, last: nn.Module) -> LayerOutputs:
    layer = Traced("last", 1, last, tuple(outputs.shape[1:]), None)
    numbers = torch.arange(len(outputs)).float().view(-1, 1, 1, 1)
    return statistics(Fixed(outputs, last), [layer], numbers)[0]


def test_dead_units_and_maps_are_those_that_are_zero_for_each_image() -> None:
    outputs = -torch.ones(7, 3, 2, 2)
    outputs[6, 0, 0, 0] = 1.0  # active once, in the second batch
    outputs[0, 1] = 1.0
    found = of_fixed(outputs, nn.ReLU())
    assert (found.dead_units, found.dead_maps, found.saturated) == (pytest.approx(7 / 12), 1, None)


def test_a_vector_has_dead_units_but_no_maps() -> None:
    found = of_fixed(torch.tensor([[-1.0, 1.0, -1.0, -1.0]]), nn.ReLU6())
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
def test_saturated_are_outputs_near_the_ends(last: nn.Module, values: list[float], share: float | None) -> None:
    found = of_fixed(torch.tensor([values] * 7), last)  # in two batches
    assert (found.saturated, found.dead_units) == (share, None)


@pytest.mark.parametrize("value", [0.0, 7.0, math.nan, math.inf])
def test_outputs_that_are_all_alike_or_no_numbers_have_a_histogram(value: float) -> None:
    histogram = of_fixed(torch.full((2, 3), value), nn.Identity()).histogram
    assert histogram is not None
    assert np.isfinite(histogram.edges).all()
    assert histogram.edges[0] < histogram.edges[-1]
    assert histogram.counts.sum() == (6 if math.isfinite(value) else 0)


def test_only_so_many_histograms_are_made() -> None:
    network, layers = pairs(nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(9)]))
    found = statistics(network, layers, images(3), most=3)
    assert [place for place, each in enumerate(found) if each.histogram is not None] == [0, 4, 8]


def test_weights_are_those_of_two_or_more_dimensions() -> None:
    network = nn.Sequential(nn.Conv2d(1, 20, 5), nn.BatchNorm2d(20), nn.Flatten(), nn.Linear(4, 3))
    chosen, number = summarize_weights(network, 24)
    values = network[0].weight.detach().double()
    (name, weight, histogram), (other, *_) = chosen
    assert (name, other, number) == ("0.weight", "3.weight", 2)
    assert (histogram.mean, histogram.std, histogram.counts.sum()) == pytest.approx(
        (values.mean().item(), values.std(correction=0).item(), weight.numel())
    )


def test_weights_that_are_no_numbers_are_left_out_of_the_histogram() -> None:
    network = nn.Linear(4, 3)
    nn.init.constant_(network.weight, math.nan)
    ((_, _, histogram),), _ = summarize_weights(network, 24)
    assert (histogram.counts.sum(), math.isnan(histogram.mean)) == (0, True)


def test_some_are_chosen_evenly_with_both_ends() -> None:
    assert (pick_evenly(range(10), 4), pick_evenly("abc", 4)) == ([0, 3, 6, 9], ["a", "b", "c"])
