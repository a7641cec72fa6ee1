"""AlexNet, layer by layer."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnbench import models

Shapes = list[tuple[int, ...]]


def test_map_shapes_match_book(output_shapes: Callable[[str, int], Shapes]) -> None:
    assert output_shapes("alexnet", 224) == [
        (96, 54, 54), (96, 26, 26), (256, 26, 26), (256, 12, 12),
        (384, 12, 12), (384, 12, 12), (256, 12, 12), (256, 5, 5),
        (6400,), (4096,), (4096,), (10,),
    ]  # fmt: skip


def test_layers_match_book(layer_names: Callable[[str, int], list[str]]) -> None:
    assert layer_names("alexnet", 224) == [
        "Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d",
        "Conv2d", "ReLU", "Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d",
        "Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear",
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "expected"), [(224, 46_764_746), (96, 21_598_922)])
def test_number_of_parameters(
    size: int, expected: int, num_parameters: Callable[[str, int], int]
) -> None:
    assert num_parameters("alexnet", size) == expected


@pytest.mark.parametrize(("size", "expected"), [(224, 938_146_176), (96, 134_474_112)])
def test_number_of_multiply_adds(
    size: int, expected: int, multiply_adds: Callable[[str, int], int]
) -> None:
    assert multiply_adds("alexnet", size) == expected


def test_dropout_argument_sets_rate() -> None:
    with torch.device("meta"):
        network = models.build("alexnet", image_size=96, dropout=0.25)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
