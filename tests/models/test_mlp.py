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


def test_has_the_widths_of_the_notes(output_shapes: Callable[[str, int], Shapes]) -> None:
    assert output_shapes("mlp", 28) == [(784,), (512,), (256,), (128,), (64,), (10,)]


def test_is_relu_between_its_layers_and_ends_in_logits(
    layer_names: Callable[[str, int], list[str]],
) -> None:
    assert layer_names("mlp", 28) == ["Flatten", *["Linear", "ReLU"] * 4, "Linear"]


def test_widths_are_those_asked_for() -> None:
    with torch.device("meta"):
        network = models.build("mlp", image_size=4, widths=[5, 6])
    assert linear_shapes(network) == [(16, 5), (5, 6), (6, 10)]


def test_without_widths_it_is_one_linear_layer() -> None:
    with torch.device("meta"):
        network = models.build("mlp", image_size=4, widths=[])
    assert linear_shapes(network) == [(16, 10)]
