"""The multilayer perceptron, layer by layer."""

from collections.abc import Callable

import torch
from torch import nn

from cnnbench import models

Shapes = list[tuple[int, ...]]


def linear_shapes(network: nn.Module) -> list[tuple[int, int]]:
    return [
        (layer.in_features, layer.out_features)
        for layer in network.modules()
        if isinstance(layer, nn.Linear)
    ]


def test_widths_match_notes(output_shapes: Callable[[str, int], Shapes]) -> None:
    assert output_shapes("mlp", 28) == [(784,), (512,), (256,), (128,), (64,), (10,)]


def test_relu_follows_all_layers_but_the_last(
    layer_names: Callable[[str, int], list[str]],
) -> None:
    assert layer_names("mlp", 28) == ["Flatten", *["Linear", "ReLU"] * 4, "Linear"]


def test_widths_argument_sets_hidden_layers() -> None:
    with torch.device("meta"):
        network = models.build("mlp", image_size=4, widths=[5, 6])
    assert linear_shapes(network) == [(16, 5), (5, 6), (6, 10)]


def test_empty_widths_build_one_linear_layer() -> None:
    with torch.device("meta"):
        network = models.build("mlp", image_size=4, widths=[])
    assert linear_shapes(network) == [(16, 10)]
