"""The choice of layers to show, and their descriptions."""

import re

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.receptive_field import Traced, trace
from cnnbench.errors import ConfigError
from cnnbench.reports.inspection.layers import (
    MAX_ROWS,
    WINDOWS,
    choose_layers,
    describe_field,
    describe_module,
    find_main_layers,
    find_named_layers,
)


def traced(network: nn.Module, size: int) -> list[Traced]:
    return trace(network.to("meta"), torch.empty(1, 1, size, size, device="meta"))


def network(name: str, size: int) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, image_size=size)


def names(layers: list[Traced]) -> list[str]:
    return [layer.name for layer in layers]


def chosen(network: nn.Module, size: int) -> list[Traced]:
    return choose_layers(find_main_layers(traced(network, size)))


def test_choose_layers_leaves_out_activations_of_large_networks() -> None:
    layers = chosen(network("lenet", 28), 28)
    assert names(layers) == [f"features.{index}" for index in range(6)]
    kinds = [type(layer.module) for layer in chosen(network("alexnet", 224), 224)]
    assert kinds == [*(nn.Conv2d, nn.MaxPool2d) * 2, *[nn.Conv2d] * 3, nn.MaxPool2d]


@pytest.mark.parametrize(
    "name", ["vgg19", "resnet20", "densenet40", "preact_resnet164", "googlenet"]
)
def test_choose_layers_spreads_over_deep_networks(name: str) -> None:
    layers = find_main_layers(traced(network(name, 32), 32))
    windows = [layer for layer in layers if isinstance(layer.module, WINDOWS)]
    candidates = names([layer for layer in windows if layer.shape[1] > 1])
    shown = choose_layers(layers)
    ends = (shown[0].name, shown[-1].name)
    assert (len(shown), *ends) == (MAX_ROWS, candidates[0], candidates[-1])
    assert {type(layer.module) for layer in shown} <= set(WINDOWS)


class Scale(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return 2 * maps


def test_choose_layers_accepts_custom_modules_and_falls_back_to_vectors() -> None:
    layers = nn.Sequential(Scale(), nn.Flatten(), nn.Linear(25, 3))
    assert names(chosen(layers, 5)) == ["0"]
    assert names(chosen(network("mlp", 28), 28))[:3] == ["layers.1", "layers.2", "layers.3"]
    assert len(chosen(nn.Sequential(*[nn.ReLU()] * 9), 5)) == MAX_ROWS


def test_main_layers_are_leaves_other_than_normalizations() -> None:
    found = names(find_main_layers(traced(network("bn_lenet", 28), 28)))
    assert found[:6] == [f"features.{index}" for index in (0, 2, 3, 4, 6, 7)]
    assert found[6:] == [f"classifier.{index}" for index in (1, 3, 4, 6, 7)]
    for name in ("resnet20", "preact_resnet110", "densenet40"):
        layers = find_main_layers(traced(network(name, 32), 32))
        kinds = {type(layer.module) for layer in layers}
        assert kinds <= {*WINDOWS, nn.ReLU, nn.Linear}


def test_named_layers_are_in_execution_order() -> None:
    layers = traced(network("lenet", 28), 28)
    found = find_named_layers(layers, ["classifier.1", "features", "features.1"])
    assert names(found) == ["features.1", "features", "classifier.1"]


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(4)])
        self.auxiliary, self.rows = nn.ReLU(), nn.Flatten(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.rows(self.features(images))
        return out


@pytest.mark.parametrize("name", ["feature.3", "auxiliary", "rows"])
def test_named_layers_rejects_layers_without_maps_or_vector(name: str) -> None:
    message = f"no layer '{name}' gives out maps or a vector."
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        find_named_layers(traced(Parts(), 4), [name])
    assert ("Did you mean 'features.3'?" in str(refused.value)) == (name == "feature.3")


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
def test_describe_module_returns_kind_and_window(layer: nn.Module, words: str) -> None:
    assert describe_module(layer) == words


def test_describe_field_returns_pixels_and_whole_image() -> None:
    layers = {layer.name: describe_field(layer, 14) for layer in traced(network("lenet", 28), 28)}
    assert layers["features.3"] == "14 × 14, whole image"
    assert layers["features.2"] == "6 × 6"
    assert layers["classifier.1"] == "whole image"
