"""The strided CNN, layer by layer."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]


@pytest.mark.parametrize(
    ("size", "sides"), [(28, [14, 7, 4]), (24, [12, 6, 3]), (29, [15, 8, 4]), (1, [1, 1, 1])]
)
def test_convolutions_of_stride_2_halve_maps(
    size: int, sides: list[int], output_shapes: Callable[..., Shapes]
) -> None:
    first, second, third = sides
    assert output_shapes("strided_cnn", size) == [
        (32, first, first), (64, second, second), (64, second, second),
        (128, third, third), (128 * third * third,), (10,),
    ]  # fmt: skip


def test_channels_and_strides_set_convolutions(output_shapes: Callable[..., Shapes]) -> None:
    shapes = output_shapes("strided_cnn", 28, channels=[3, 5], strides=[1, 3])
    assert shapes == [(3, 28, 28), (5, 10, 10), (500,), (10,)]


def test_nothing_pools(layer_names: Callable[..., list[str]]) -> None:
    stages = ["Conv2d", "BatchNorm2d", "ReLU"] * 4
    assert layer_names("strided_cnn", 28) == [*stages, "Flatten", "Linear"]


def test_number_of_parameters_matches_formula(num_parameters: Callable[..., int]) -> None:
    convolutions = 9 * (3 * 32 + 32 * 64 + 64 * 64 + 64 * 128)
    normalization = 2 * (32 + 64 + 64 + 128)
    assert num_parameters("strided_cnn", 28, 3) == (
        convolutions + normalization + 128 * 4 * 4 * 10 + 10
    )


def test_number_of_multiply_adds_matches_formula(multiply_adds: Callable[..., int]) -> None:
    at_14 = 9 * 32 * 14 * 14
    at_7 = 9 * (32 * 64 + 64 * 64) * 7 * 7
    at_4 = 9 * 64 * 128 * 4 * 4
    assert multiply_adds("strided_cnn", 28) == at_14 + at_7 + at_4 + 128 * 4 * 4 * 10


def test_logits_match_functional_implementation(randomize: Callable[[nn.Module], None]) -> None:
    network = models.build("strided_cnn", 3, channels=[4, 6], strides=[2, 1]).eval()
    randomize(network)
    weights = network.state_dict()
    images = torch.randn(2, 3, 28, 28)
    maps = images
    for layer, stride in ((0, 2), (3, 1)):
        mean, var, weight, bias = (
            weights[f"features.{layer + 1}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        kernel = weights[f"features.{layer}.weight"]
        maps = functional.conv2d(maps, kernel, stride=stride, padding=1)
        maps = functional.batch_norm(maps, mean, var, weight, bias).relu()
    expected = maps.flatten(1) @ weights["classifier.1.weight"].T + weights["classifier.1.bias"]
    torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize(
    ("channels", "strides", "answer"),
    [
        ([], [], r"channels=\[\] must be numbers of at least 1"),
        ([32, 0], [2, 2], r"channels=\[32, 0\] must be numbers of at least 1"),
        ([32], [0], r"strides=\[0\] must be numbers of at least 1, one for each of channels"),
        ([32, 64], [2], r"strides=\[2\] must be .* one for each of channels=\[32, 64\]"),
    ],
)
def test_channels_or_strides_out_of_range_raise(
    channels: list[int], strides: list[int], answer: str, meta_network: Callable[..., nn.Module]
) -> None:
    with pytest.raises(ConfigError, match=answer):
        meta_network("strided_cnn", 28, channels=channels, strides=strides)
