"""The small network with Inception blocks of the course notes, layer by layer."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnbench import models

Shapes = list[tuple[int, ...]]


def test_map_shapes_match_notes(stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes([f"layers.{layer}" for layer in range(10)], "inception_net", 28) == [
        (10, 24, 24), (10, 12, 12), (10, 12, 12), (88, 12, 12),
        (20, 8, 8), (20, 4, 4), (20, 4, 4), (88, 4, 4), (1408,), (10,),
    ]  # fmt: skip


def test_inception_has_no_activation(layer_names: Callable[..., list[str]]) -> None:
    inception = [
        "Conv2d",
        "Conv2d", "Conv2d",
        "Conv2d", "Conv2d", "Conv2d",
        "AvgPool2d", "Conv2d",
    ]  # fmt: skip
    around = ["Conv2d", "MaxPool2d", "ReLU"]
    assert layer_names("inception_net", 28) == [*[*around, *inception] * 2, "Flatten", "Linear"]


@pytest.mark.parametrize(("layer", "channels"), [(3, 10), (7, 20)])
def test_inception_branches_match_notes(
    layer: int,
    channels: int,
    meta_network: Callable[..., nn.Module],
    convolutions: Callable[[nn.Module], list[tuple[int, int, int]]],
) -> None:
    assert convolutions(meta_network("inception_net", 28).get_submodule(f"layers.{layer}")) == [
        (channels, 16, 1),
        (channels, 16, 1), (16, 24, 5),
        (channels, 16, 1), (16, 24, 3), (24, 24, 3),
        (channels, 24, 1),
    ]  # fmt: skip


def test_inception_branches_are_joined_in_order_1x1_5x5_3x3_pool() -> None:
    block = models.build("inception_net").get_submodule("layers.3")
    values = {"branch_1x1": 1.0, "branch_5x5": 5.0, "branch_3x3": 3.0, "branch_pool": 0.5}
    for name, value in values.items():
        branch = block.get_submodule(name)
        last = [layer for layer in branch.modules() if isinstance(layer, nn.Conv2d)][-1]
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.get_parameter("bias"), value)
    joined = block(torch.zeros(1, 10, 1, 1)).flatten().tolist()
    assert joined == [1.0] * 16 + [5.0] * 24 + [3.0] * 24 + [0.5] * 24


def test_inception_pools_by_average_over_3x3_pixels() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 10, 6, 6)
    pooled = models.build("inception_net").get_submodule("layers.3.branch_pool.0")(maps)
    torch.testing.assert_close(pooled[..., 2, 3], maps[..., 1:4, 2:5].mean(dim=(2, 3)))


def test_number_of_parameters(num_parameters: Callable[..., int]) -> None:
    assert num_parameters("inception_net", 28) == 97_298


def test_number_of_multiply_adds(multiply_adds: Callable[..., int]) -> None:
    assert multiply_adds("inception_net", 28) == 6_019_200


@pytest.mark.parametrize(("layer", "channels"), [(3, 10), (7, 20)])
def test_branches_without_bottleneck_have_no_1x1_before_larger_kernels(
    layer: int,
    channels: int,
    meta_network: Callable[..., nn.Module],
    convolutions: Callable[[nn.Module], list[tuple[int, int, int]]],
) -> None:
    network = meta_network("inception_net", 28, bottleneck=False)
    assert convolutions(network.get_submodule(f"layers.{layer}")) == [
        (channels, 16, 1),
        (channels, 24, 5),
        (channels, 24, 3), (24, 24, 3),
        (channels, 24, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "size", "with_bottleneck", "without_bottleneck"),
    [
        # The 1x1 convolution makes 16 maps of 10, or of 20: it saves in the second block only.
        (3, 12, 144 * (10 * 16 + 16 * 24 * 25), 144 * 10 * 24 * 25),
        (7, 4, 16 * (20 * 16 + 16 * 24 * 25), 16 * 20 * 24 * 25),
    ],
)
def test_multiply_adds_of_5x5_branch(
    layer: int,
    size: int,
    with_bottleneck: int,
    without_bottleneck: int,
    meta_network: Callable[..., nn.Module],
    count_multiply_adds: Callable[..., int],
) -> None:
    counts = []
    for bottleneck in (True, False):
        network = meta_network("inception_net", 28, bottleneck=bottleneck)
        block = network.get_submodule(f"layers.{layer}")
        channels = block.get_submodule("branch_1x1").in_channels
        counts.append(count_multiply_adds(block.get_submodule("branch_5x5"), size, channels))
    assert counts == [with_bottleneck, without_bottleneck]


def test_number_of_multiply_adds_without_bottleneck(multiply_adds: Callable[..., int]) -> None:
    # The first block needs (9,760 - 6,000 + 8,800 - 7,344) x 144 fewer, the second one
    # (12,000 - 9,920 + 9,504 - 8,960) x 16 more.
    expected = 6_019_200 - 5_216 * 144 + 2_624 * 16
    assert multiply_adds("inception_net", 28, bottleneck=False) == expected == 5_310_080


def test_number_of_parameters_without_bottleneck(num_parameters: Callable[..., int]) -> None:
    # The kernels differ as above; four 1x1 convolutions of 16 maps lose their biases.
    assert num_parameters("inception_net", 28, bottleneck=False) == 97_298 - 5_216 + 2_624 - 64
