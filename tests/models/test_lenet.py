"""LeNet and the improved LeNet of the course notes, layer by layer."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnbench import models

Shapes = list[tuple[int, ...]]


def test_lenet_map_shapes_match_book(output_shapes: Callable[[str, int], Shapes]) -> None:
    assert output_shapes("lenet", 28) == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_lenet_relu_map_shapes_match_notes(output_shapes: Callable[[str, int], Shapes]) -> None:
    assert output_shapes("lenet_relu", 28) == [
        (6, 24, 24), (6, 12, 12), (10, 8, 8), (10, 4, 4), (160,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_lenet_has_average_pooling_and_sigmoid(
    layer_names: Callable[[str, int], list[str]],
) -> None:
    assert layer_names("lenet", 28) == [
        "Conv2d", "Sigmoid", "AvgPool2d", "Conv2d", "Sigmoid", "AvgPool2d",
        "Flatten", "Linear", "Sigmoid", "Linear", "Sigmoid", "Linear",
    ]  # fmt: skip


def test_lenet_relu_has_max_pooling_and_sigmoid_classifier(
    layer_names: Callable[[str, int], list[str]],
) -> None:
    assert layer_names("lenet_relu", 28) == [
        "Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d",
        "Flatten", "Linear", "Sigmoid", "Linear", "Sigmoid", "Linear",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), [("lenet", 61_706), ("lenet_relu", 32_000)])
def test_number_of_parameters(
    name: str, expected: int, num_parameters: Callable[[str, int], int]
) -> None:
    assert num_parameters(name, 28) == expected


@pytest.mark.parametrize(("name", "expected"), [("lenet", 416_520), ("lenet_relu", 212_520)])
def test_number_of_multiply_adds(
    name: str, expected: int, multiply_adds: Callable[[str, int], int]
) -> None:
    assert multiply_adds(name, 28) == expected


@pytest.mark.parametrize(
    ("activation", "layer"), [("sigmoid", "Sigmoid"), ("tanh", "Tanh"), ("relu", "ReLU")]
)
def test_activation_argument_sets_all_activations(
    activation: str, layer: str, layer_names: Callable[..., list[str]]
) -> None:
    names = layer_names("lenet", 28, activation=activation)
    assert [name for name in names if name in ("Sigmoid", "Tanh", "ReLU")] == [layer] * 4


@pytest.mark.parametrize(("pooling", "expected"), [("avg", 2.75), ("max", 5.0), ("min", 1.0)])
def test_pooling_argument_sets_poolings(pooling: str, expected: float) -> None:
    network = models.build("lenet", pooling=pooling)
    kinds = (nn.AvgPool2d, nn.MaxPool2d)
    pools = [layer for layer in network.modules() if isinstance(layer, kinds)]
    window = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]])
    assert [pool(window).tolist() for pool in pools] == [[[[expected]]]] * 2


@pytest.mark.parametrize("pooling", ["max", "min"])
def test_lenet_map_shapes_do_not_depend_on_pooling(
    pooling: str, output_shapes: Callable[..., Shapes]
) -> None:
    assert output_shapes("lenet", 28, pooling=pooling) == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_min_pooling_returns_minimum_of_window() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 6, 28, 28)
    minima = maps.unflatten(3, (14, 2)).unflatten(2, (14, 2)).amin(dim=(3, 5))
    pool = models.build("lenet", pooling="min").get_submodule("features.2")
    torch.testing.assert_close(pool(maps), minima)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_mode_reaches_padded_convolution(
    mode: str, padding_modes: Callable[..., set[str]]
) -> None:
    assert padding_modes("lenet", 28, padding_mode=mode) == {mode}
