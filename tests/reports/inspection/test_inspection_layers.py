"""Which layers are looked at, and what they are called."""

import re

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.receptive_field import Traced, trace
from cnnbench.errors import ConfigError
from cnnbench.reports.inspection.layers import (
    MAX_ROWS,
    choose_layers,
    describe_field,
    describe_module,
    is_window,
    layers_with_statistics,
    named_layers,
)


def traced(network: nn.Module, size: int) -> list[Traced]:
    return trace(network.to("meta"), torch.empty(1, 1, size, size, device="meta"))


def network(name: str, size: int) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, image_size=size)


def names(layers: list[Traced]) -> list[str]:
    return [layer.name for layer in layers]


def test_of_a_large_network_activations_are_left_out() -> None:
    chosen = choose_layers(traced(network("lenet", 28), 28))
    assert names(chosen) == [f"features.{index}" for index in range(6)]
    kinds = [type(layer.module) for layer in choose_layers(traced(network("alexnet", 224), 224))]
    assert kinds == [*(nn.Conv2d, nn.MaxPool2d) * 2, *[nn.Conv2d] * 3, nn.MaxPool2d]


@pytest.mark.parametrize("name", ["vgg19", "resnet20", "densenet40", "preact_resnet164", "googlenet"])
def test_of_a_deep_one_some_are_from_its_first_to_its_last(name: str) -> None:
    layers = traced(network(name, 32), 32)
    candidates = names([layer for layer in layers if is_window(layer) and layer.shape[1] > 1])
    shown = names(choose_layers(layers))
    assert (len(shown), shown[0], shown[-1]) == (MAX_ROWS, candidates[0], candidates[-1])


class Scale(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return 2 * maps


def test_without_convolutions_other_maps_or_vectors_are_shown() -> None:
    layers = traced(nn.Sequential(Scale(), nn.Flatten(), nn.Linear(25, 3)), 5)
    assert names(choose_layers(layers)) == ["0"]
    chosen = names(choose_layers(traced(network("mlp", 28), 28)))
    assert chosen[:3] == ["layers.1", "layers.2", "layers.3"]


def test_statistics_are_of_weights_and_activations() -> None:
    layers = names(layers_with_statistics(traced(network("lenet_relu", 28), 28)))
    assert layers[:3] == ["features.0", "features.1", "features.3"]


def test_named_layers_come_in_the_order_they_run() -> None:
    net = network("lenet", 28)
    found = named_layers(traced(net, 28), net, ["classifier.1", "features", "features.1"])
    assert names(found) == ["features.1", "features", "classifier.1"]


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(4)])
        self.auxiliary, self.rows = nn.ReLU(), nn.Flatten(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.rows(self.features(images))
        return out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("feature.3", "there is no layer 'feature.3'. Did you mean 'features.3'?"),
        ("auxiliary", "auxiliary gives out no tensor when the network is evaluated"),
        ("rows", "rows gives out 2 dimensions"),
    ],
)
def test_a_layer_that_cannot_be_shown_is_refused(name: str, told: str) -> None:
    net = Parts()
    with pytest.raises(ConfigError, match=re.escape(told)):
        named_layers(traced(net, 4), net, [name])


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Conv2d(1, 1, 5), "Conv2d 5 × 5"),
        (nn.Conv2d(1, 1, (3, 1), stride=(2, 2)), "Conv2d 3 × 1, stride 2"),
        (nn.MaxPool2d(2), "MaxPool2d 2 × 2"),
        (nn.MaxPool2d(3, 2), "MaxPool2d 3 × 3, stride 2"),
        (nn.AdaptiveAvgPool2d(1), "AdaptiveAvgPool2d"),
        (nn.ReLU(), "ReLU"),
    ],
)
def test_a_layer_is_described_by_kind_and_window(layer: nn.Module, words: str) -> None:
    assert describe_module(layer) == words


def test_a_field_is_told_in_pixels_and_against_the_image() -> None:
    layers = {layer.name: describe_field(layer, 14) for layer in traced(network("lenet", 28), 28)}
    assert layers["features.3"] == "14 × 14, whole image"
    assert layers["features.2"] == "6 × 6"
    assert layers["classifier.1"] == "whole image"
