"""The multilayer perceptron, layer by layer."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

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


@pytest.mark.parametrize(
    ("activation", "layer"),
    [("relu", "ReLU"), ("sigmoid", "Sigmoid"), ("tanh", "Tanh"), ("step", "Step")],
)
def test_activation_argument_sets_all_activations(
    activation: str, layer: str, layer_names: Callable[..., list[str]]
) -> None:
    names = layer_names("mlp", 28, activation=activation)
    assert names == ["Flatten", *["Linear", layer] * 4, "Linear"]


def test_default_weights_and_logits_equal_relu_layers_of_same_seed() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 10)
    )
    torch.manual_seed(0)
    network = models.build("mlp", widths=[5, 6])
    weights, expected = network.state_dict(), layers.state_dict()
    assert list(weights) == [f"layers.{key}" for key in expected]
    assert all(map(torch.equal, weights.values(), expected.values()))
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(network(images), layers(images))


def test_step_is_one_above_zero_only() -> None:
    step = models.build("mlp", widths=[1], activation="step").get_submodule("layers.2")
    inputs = torch.tensor([-torch.inf, -2.0, -0.0, 0.0, 1e-30, 0.5, 3.0, torch.inf])
    assert step(inputs).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_step_passes_gradient_of_zero_to_all_layers_but_the_last() -> None:
    torch.manual_seed(0)
    network = models.build("mlp", activation="step")
    functional.cross_entropy(network(torch.randn(4, 1, 28, 28)), torch.arange(4)).backward()
    learning = []
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None
        if parameter.grad.any():
            learning.append(key)
    assert learning == ["layers.9.weight", "layers.9.bias"]


def test_widths_argument_sets_hidden_layers() -> None:
    with torch.device("meta"):
        network = models.build("mlp", image_size=4, widths=[5, 6])
    assert linear_shapes(network) == [(16, 5), (5, 6), (6, 10)]


def test_empty_widths_build_one_linear_layer() -> None:
    with torch.device("meta"):
        network = models.build("mlp", image_size=4, widths=[])
    assert linear_shapes(network) == [(16, 10)]
