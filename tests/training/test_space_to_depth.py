"""The same convolution by space-to-depth: equal maps and gradients, the same parameters."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.training.space_to_depth import SpaceToDepthConv2d, use_space_to_depth

# AlexNet's, ResNet's, one whose kernel is its stride, and some that leave pixels over
CASES = [
    (1, 11, 4, 0, 224),
    (1, 7, 2, 3, 96),
    (3, 7, 2, 3, 31),
    (2, 3, 3, 0, 17),
    (1, 5, 3, 1, 20),
    (4, 3, 2, 1, 9),
]


@pytest.mark.parametrize(("channels", "kernel", "stride", "padding", "size"), CASES)
def test_maps_and_gradients_are_those_of_the_convolution(
    channels: int, kernel: int, stride: int, padding: int, size: int
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, 5, kernel, stride, padding, dtype=torch.float64)
    ours = nn.Conv2d(channels, 5, kernel, stride, padding, dtype=torch.float64)
    ours.load_state_dict(plain.state_dict())
    use_space_to_depth(ours)
    assert type(ours) is SpaceToDepthConv2d
    images = torch.randn(2, channels, size, size, dtype=torch.float64)
    inputs = [images.clone().requires_grad_() for _ in range(2)]
    maps = [layer(each) for layer, each in zip((plain, ours), inputs, strict=True)]
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-13)
    for each in maps:
        each.square().sum().backward()
    pairs = [
        (plain.weight.grad, ours.weight.grad),
        (plain.bias.grad, ours.bias.grad),
        (inputs[0].grad, inputs[1].grad),
    ]
    for theirs, own in pairs:
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-10)


def test_images_that_are_not_square_keep_their_shape() -> None:
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
def test_other_convolutions_stay_as_they_are(options: Mapping[str, object]) -> None:
    layer = nn.Conv2d(
        **{"in_channels": 1, "out_channels": 4, "kernel_size": 3, "stride": 2, **options}
    )  # type: ignore[arg-type]  # values of several types
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
def test_of_a_network_the_first_convolution_fits(name: str, expected: int) -> None:
    network = models.build(name, image_size=224)
    keys = list(network.state_dict())
    use_space_to_depth(network)
    assert sum(type(module) is SpaceToDepthConv2d for module in network.modules()) == expected
    assert list(network.state_dict()) == keys
