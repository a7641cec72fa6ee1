"""Convolutions by space-to-depth have the same maps, gradients and parameters."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.training.space_to_depth import SpaceToDepthConv2d, use_space_to_depth

# AlexNet's, ResNet's, one whose kernel is its stride, and some that leave pixels unused.
CASES = [
    (1, 11, 4, 0, 224),
    (1, 7, 2, 3, 96),
    (3, 7, 2, 3, 31),
    (2, 3, 3, 0, 17),
    (1, 5, 3, 1, 20),
    (4, 3, 2, 1, 9),
]


@pytest.mark.parametrize(("channels", "kernel", "stride", "padding", "size"), CASES)
def test_maps_and_gradients_equal_those_of_the_convolution(
    channels: int, kernel: int, stride: int, padding: int, size: int
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, 5, kernel, stride, padding, dtype=torch.float64)
    ours = nn.Conv2d(channels, 5, kernel, stride, padding, dtype=torch.float64)
    ours.load_state_dict(plain.state_dict())
    use_space_to_depth(ours)
    assert type(ours) is SpaceToDepthConv2d
    images = torch.randn(2, channels, size, size, dtype=torch.float64)
    gradients = []
    maps = []
    for layer in (plain, ours):
        inputs = images.clone().requires_grad_()
        maps.append(layer(inputs))
        maps[-1].square().sum().backward()
        gradients.append([inputs.grad, layer.weight.grad, layer.bias.grad])
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-13)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-10)


def test_images_may_be_rectangular() -> None:
    layer = nn.Conv2d(1, 2, 7, 2, 3)
    images = torch.randn(2, 1, 20, 33)
    expected = layer(images)
    use_space_to_depth(layer)
    torch.testing.assert_close(layer(images), expected, rtol=1e-5, atol=1e-5)


def test_maps_are_channels_last() -> None:
    layer = nn.Conv2d(1, 8, 7, 2, 3).to(memory_format=torch.channels_last)
    use_space_to_depth(layer)
    assert layer(torch.randn(2, 1, 32, 32)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 5},
        {"stride": 1},
        {"stride": (2, 4)},
        {"kernel_size": (3, 5)},
        {"kernel_size": 1},
        {"groups": 2, "in_channels": 2},
        {"dilation": 2},
        {"padding_mode": "reflect", "padding": 1},
        {"padding": "valid"},
    ],
    ids=str,
)
def test_other_convolutions_are_unchanged(options: Mapping[str, object]) -> None:
    defaults = {"in_channels": 1, "out_channels": 4, "kernel_size": 3, "stride": 2}
    layer = nn.Conv2d(**{**defaults, **options})  # type: ignore[arg-type]
    use_space_to_depth(layer)
    assert type(layer) is nn.Conv2d


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet", 1),
        ("nin", 1),
        ("d2l_resnet18", 1),
        ("densenet121", 1),
        ("googlenet", 1),
        ("vgg11", 0),
        ("lenet", 0),
    ],
)
def test_number_of_replaced_convolutions_of_networks(name: str, expected: int) -> None:
    network = models.build(name, image_size=224)
    keys = list(network.state_dict())
    use_space_to_depth(network)
    assert sum(type(module) is SpaceToDepthConv2d for module in network.modules()) == expected
    assert list(network.state_dict()) == keys
