"""AlexNet, layer by layer."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.errors import ConfigError

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


def conv_widths(network: nn.Module) -> list[int]:
    return [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def test_width_scales_only_convolutions(
    output_shapes: Callable[..., Shapes], meta_network: Callable[..., nn.Module]
) -> None:
    assert conv_widths(meta_network("alexnet", 224, width=0.25)) == [24, 64, 96, 96, 64]
    assert output_shapes("alexnet", 224, width=0.25)[-4:] == [(1600,), (4096,), (4096,), (10,)]


# Convolutions: 122 x 24, 601 x 64, 577 x 96, 865 x 96, 865 x 64; linear layers: 1601 x 4096,
# 4097 x 4096, 4097 x 10.
def test_number_of_parameters_with_quarter_width(num_parameters: Callable[..., int]) -> None:
    convolutions = 2_928 + 38_464 + 55_392 + 83_040 + 55_360
    expected = convolutions + 6_557_696 + 16_781_312 + 40_970
    assert num_parameters("alexnet", 224, width=0.25) == expected


def test_tiny_width_keeps_one_channel(meta_network: Callable[..., nn.Module]) -> None:
    assert conv_widths(meta_network("alexnet", 96, width=1e-9)) == [1] * 5


@pytest.mark.parametrize("width", [0.0, -1.0, float("inf"), float("nan")])
def test_width_out_of_range_raises(width: float, meta_network: Callable[..., nn.Module]) -> None:
    with pytest.raises(ConfigError, match=rf"width={width} must be finite and above 0"):
        meta_network("alexnet", 96, width=width)


def test_dropout_argument_sets_rate() -> None:
    with torch.device("meta"):
        network = models.build("alexnet", image_size=96, dropout=0.25)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
