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
def test_each_convolution_halves_maps(
    size: int, sides: list[int], output_shapes: Callable[..., Shapes]
) -> None:
    first, second, third = sides
    assert output_shapes("strided_cnn", size) == [
        (32, first, first), (64, second, second), (128, third, third),
        (128 * third * third,), (10,),
    ]  # fmt: skip


def test_channels_set_number_and_width_of_convolutions(
    output_shapes: Callable[..., Shapes],
) -> None:
    shapes = output_shapes("strided_cnn", 28, channels=[3, 5])
    assert shapes == [(3, 14, 14), (5, 7, 7), (245,), (10,)]


def test_nothing_pools(layer_names: Callable[..., list[str]]) -> None:
    stages = ["Conv2d", "BatchNorm2d", "ReLU"] * 3
    assert layer_names("strided_cnn", 28) == [*stages, "Flatten", "Linear"]


def test_number_of_parameters_matches_formula(num_parameters: Callable[..., int]) -> None:
    convolutions = 9 * (3 * 32 + 32 * 64 + 64 * 128)
    normalization = 2 * (32 + 64 + 128)
    assert num_parameters("strided_cnn", 28, 3) == (
        convolutions + normalization + 128 * 4 * 4 * 10 + 10
    )


def test_number_of_multiply_adds_matches_formula(multiply_adds: Callable[..., int]) -> None:
    convolutions = 9 * (14 * 14 * 32 + 7 * 7 * 32 * 64 + 4 * 4 * 64 * 128)
    assert multiply_adds("strided_cnn", 28) == convolutions + 128 * 4 * 4 * 10


def test_logits_match_functional_implementation(randomize: Callable[[nn.Module], None]) -> None:
    network = models.build("strided_cnn", 3, channels=[4, 6]).eval()
    randomize(network)
    weights = network.state_dict()
    images = torch.randn(2, 3, 28, 28)
    maps = images
    for layer in (0, 3):
        mean, var, weight, bias = (
            weights[f"features.{layer + 1}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        maps = functional.conv2d(maps, weights[f"features.{layer}.weight"], stride=2, padding=1)
        maps = functional.batch_norm(maps, mean, var, weight, bias).relu()
    expected = maps.flatten(1) @ weights["classifier.1.weight"].T + weights["classifier.1.bias"]
    torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize(
    ("channels", "shown"), [([], r"\[\]"), ([32, 0], r"\[32, 0\]"), ([-1], r"\[-1\]")]
)
def test_channels_out_of_range_raise(
    channels: list[int], shown: str, meta_network: Callable[..., nn.Module]
) -> None:
    with pytest.raises(ConfigError, match=rf"channels={shown} must be numbers of at least 1"):
        meta_network("strided_cnn", 28, channels=channels)
