"""The course notes' small networks and LeNet with batch normalisation, layer by layer."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnbench import models

Shapes = list[tuple[int, ...]]


def convolutions(block: nn.Module) -> list[tuple[int, int, int]]:
    """Channels in, channels out and the side of the kernel."""
    layers = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    return [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in layers]


def test_simple_cnn_has_the_maps_of_the_notes(output_shapes: Callable[..., Shapes]) -> None:
    assert output_shapes("simple_cnn", 28) == [
        (10, 24, 24),
        (10, 12, 12),
        (20, 8, 8),
        (20, 4, 4),
        (320,),
        (10,),
    ]


def test_simple_cnn_pools_before_it_activates(layer_names: Callable[..., list[str]]) -> None:
    assert layer_names("simple_cnn", 28) == [
        *["Conv2d", "MaxPool2d", "ReLU"] * 2,
        "Flatten",
        "Linear",
    ]


def test_three_conv_has_the_maps_of_the_notes(output_shapes: Callable[..., Shapes]) -> None:
    assert output_shapes("three_conv", 28) == [
        (10, 24, 24), (10, 12, 12), (20, 10, 10), (20, 5, 5), (30, 4, 4), (30, 2, 2), (120,), (10,),
    ]  # fmt: skip


def test_three_conv_activates_before_it_pools(layer_names: Callable[..., list[str]]) -> None:
    assert layer_names("three_conv", 28) == [
        *["Conv2d", "ReLU", "MaxPool2d"] * 3,
        "Flatten",
        "Linear",
    ]


def test_inception_net_has_the_maps_of_the_notes(stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes([f"layers.{layer}" for layer in range(10)], "inception_net", 28) == [
        (10, 24, 24), (10, 12, 12), (10, 12, 12), (88, 12, 12),
        (20, 8, 8), (20, 4, 4), (20, 4, 4), (88, 4, 4), (1408,), (10,),
    ]  # fmt: skip


def test_inception_net_has_no_activation_inside_its_inception(
    layer_names: Callable[..., list[str]],
) -> None:
    inception = [
        "Conv2d",
        "Conv2d", "Conv2d",
        "Conv2d", "Conv2d", "Conv2d",
        "AvgPool2d", "Conv2d",
    ]  # fmt: skip
    around = ["Conv2d", "MaxPool2d", "ReLU"]
    assert layer_names("inception_net", 28) == [*[*around, *inception] * 2, "Flatten", "Linear"]


@pytest.mark.parametrize(("layer", "channels"), [(3, 10), (7, 20)])
def test_the_branches_of_inception_net_have_the_convolutions_of_the_notes(
    layer: int, channels: int, meta_network: Callable[..., nn.Module]
) -> None:
    assert convolutions(meta_network("inception_net", 28).get_submodule(f"layers.{layer}")) == [
        (channels, 16, 1),
        (channels, 16, 1), (16, 24, 5),
        (channels, 16, 1), (16, 24, 3), (24, 24, 3),
        (channels, 24, 1),
    ]  # fmt: skip


def test_the_branches_of_inception_net_are_joined_1x1_5x5_3x3_pool() -> None:
    block = models.build("inception_net").get_submodule("layers.3")
    sources = {"branch_1x1": 1.0, "branch_5x5": 5.0, "branch_3x3": 3.0, "branch_pool": 0.5}
    for branch, value in sources.items():
        last = [
            layer for layer in block.get_submodule(branch).modules() if isinstance(layer, nn.Conv2d)
        ][-1]
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.get_parameter("bias"), value)
    joined = block(torch.zeros(1, 10, 1, 1)).flatten().tolist()
    assert joined == [1.0] * 16 + [5.0] * 24 + [3.0] * 24 + [0.5] * 24


def test_inception_net_pools_by_average_over_nine_pixels() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 10, 6, 6)
    pooled = models.build("inception_net").get_submodule("layers.3.branch_pool.0")(maps)
    torch.testing.assert_close(pooled[..., 2, 3], maps[..., 1:4, 2:5].mean(dim=(2, 3)))


def test_residual_net_has_the_maps_of_the_notes(stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes([f"layers.{layer}" for layer in range(10)], "residual_net", 28) == [
        (16, 24, 24), (16, 24, 24), (16, 12, 12), (16, 12, 12),
        (32, 8, 8), (32, 8, 8), (32, 4, 4), (32, 4, 4), (512,), (10,),
    ]  # fmt: skip


def test_residual_net_has_no_normalisation(layer_names: Callable[..., list[str]]) -> None:
    assert set(layer_names("residual_net", 28)) == {
        "Conv2d",
        "ReLU",
        "MaxPool2d",
        "Flatten",
        "Linear",
    }


@pytest.mark.parametrize("layer", [3, 7])
def test_the_block_of_residual_net_adds_before_its_last_activation(
    layer: int, meta_network: Callable[..., nn.Module], steps: Callable[[nn.Module], list[str]]
) -> None:
    block = meta_network("residual_net", 28).get_submodule(f"layers.{layer}")
    assert steps(block) == ["Conv2d", "ReLU", "Conv2d", "+", "ReLU"]


@pytest.mark.parametrize(("layer", "channels"), [(3, 16), (7, 32)])
def test_the_block_of_residual_net_has_two_3x3_convolutions(
    layer: int, channels: int, meta_network: Callable[..., nn.Module]
) -> None:
    block = meta_network("residual_net", 28).get_submodule(f"layers.{layer}")
    assert convolutions(block) == [(channels, channels, 3)] * 2


def test_the_block_of_residual_net_adds_its_input() -> None:
    torch.manual_seed(0)
    block, maps = models.build("residual_net").get_submodule("layers.3"), torch.randn(2, 16, 4, 4)
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))
    torch.testing.assert_close(block(maps), maps.relu(), rtol=0, atol=0)


def test_bn_lenet_has_the_maps_of_the_book(output_shapes: Callable[..., Shapes]) -> None:
    assert output_shapes("bn_lenet", 28) == [
        (6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 4, 4), (256,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_bn_lenet_normalises_before_each_sigmoid(layer_names: Callable[..., list[str]]) -> None:
    assert layer_names("bn_lenet", 28) == [
        *["Conv2d", "BatchNorm2d", "Sigmoid", "AvgPool2d"] * 2,
        "Flatten",
        *["Linear", "BatchNorm1d", "Sigmoid"] * 2,
        "Linear",
    ]  # fmt: skip


BN_LENET = {
    "parameters": [
        6 * 1 * 25 + 6 + 2 * 6,
        16 * 6 * 25 + 16 + 2 * 16,
        120 * 256 + 120 + 2 * 120,
        84 * 120 + 84 + 2 * 84,
        10 * 84 + 10,
    ],
    "multiply-adds": [24 * 24 * 6 * 1 * 25, 8 * 8 * 16 * 6 * 25, 120 * 256, 84 * 120, 10 * 84],
}  # layer by layer


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("simple_cnn", 8_490), ("three_conv", 5_720), ("inception_net", 97_298), ("residual_net", 41_514),
        ("bn_lenet", sum(BN_LENET["parameters"])),
    ],
)  # fmt: skip
def test_number_of_parameters(name: str, expected: int, num_parameters: Callable[..., int]) -> None:
    assert num_parameters(name, 28) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("simple_cnn", 467_200), ("three_conv", 363_600), ("inception_net", 6_019_200), ("residual_net", 2_013_184),
        ("bn_lenet", sum(BN_LENET["multiply-adds"])),
    ],
)  # fmt: skip
def test_number_of_multiply_adds(
    name: str, expected: int, multiply_adds: Callable[..., int]
) -> None:
    assert multiply_adds(name, 28) == expected
