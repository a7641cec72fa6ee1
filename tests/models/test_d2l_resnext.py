"""ResNeXt and RegNetX with the blocks of Dive into Deep Learning, stage by stage."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnbench import models

Shapes = list[tuple[int, ...]]

NAMES = ["d2l_resnext", "d2l_regnetx"]
BOTTLENECK = [*["Conv2d", "BatchNorm2d", "ReLU"] * 2, "Conv2d", "BatchNorm2d"]
PROJECTION = ["Conv2d", "BatchNorm2d"]


def test_resnext_map_shapes_match_paper(stage_shapes: Callable[..., Shapes]) -> None:
    stages = [f"stages.{index}" for index in range(4)]
    names = ["stem.0", "stem", *stages, "classifier.0", "classifier"]
    assert stage_shapes(names, "d2l_resnext", 224) == [
        (64, 112, 112), (64, 56, 56),
        (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7),
        (2048, 1, 1), (10,),
    ]  # fmt: skip


def test_regnetx_map_shapes_match_book(stage_shapes: Callable[..., Shapes]) -> None:
    names = ["stem", "stages.0", "stages.1", "classifier.0", "classifier"]
    assert stage_shapes(names, "d2l_regnetx", 96) == [
        (32, 48, 48), (32, 24, 24), (80, 12, 12), (80, 1, 1), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "blocks"), [("d2l_resnext", [3, 4, 6, 3]), ("d2l_regnetx", [4, 6])]
)
def test_number_of_blocks(
    name: str, blocks: list[int], meta_network: Callable[..., nn.Module]
) -> None:
    stages = meta_network(name, 96).get_submodule("stages").children()
    assert [len(list(stage.children())) for stage in stages] == blocks


@pytest.mark.parametrize(
    ("name", "block", "projection"),
    [
        ("d2l_resnext", "stages.0.0", PROJECTION),
        ("d2l_resnext", "stages.0.1", []),
        ("d2l_regnetx", "stages.0.0", PROJECTION),
        ("d2l_regnetx", "stages.1.1", []),
    ],
)
def test_block_adds_shortcut_before_last_activation(
    name: str,
    block: str,
    projection: list[str],
    meta_network: Callable[..., nn.Module],
    steps: Callable[[nn.Module], list[str]],
) -> None:
    expected = [*BOTTLENECK, *projection, "+", "ReLU"]
    assert steps(meta_network(name, 96).get_submodule(block)) == expected


@pytest.mark.parametrize(("name", "channels"), [("d2l_resnext", 256), ("d2l_regnetx", 32)])
def test_block_with_equal_shapes_adds_its_input(name: str, channels: int) -> None:
    torch.manual_seed(0)
    block = models.build(name, image_size=32).eval().get_submodule("stages.0.1")
    for parameter in ("weight", "bias"):
        nn.init.zeros_(block.get_parameter(f"residual.6.{parameter}"))
    maps = torch.randn(2, channels, 4, 4)
    torch.testing.assert_close(block(maps), maps.relu(), rtol=0, atol=0)


def test_stem_pools_over_3x3_pixels(meta_network: Callable[..., nn.Module]) -> None:
    layers = meta_network("d2l_resnext", 96).modules()
    pools = [layer for layer in layers if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride) for pool in pools] == [(3, 2)]


def groups(network: nn.Module) -> list[tuple[int, int]]:
    """Return channels and groups of the 3x3 convolutions of all stages."""
    layers = network.get_submodule("stages").modules()
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    kinds = {
        (conv.out_channels, conv.groups) for conv in convolutions if conv.kernel_size == (3, 3)
    }
    return sorted(kinds)


def test_resnext_is_32x4d(meta_network: Callable[..., nn.Module]) -> None:
    assert groups(meta_network("d2l_resnext", 224)) == [(128, 32), (256, 32), (512, 32), (1024, 32)]


def test_regnetx_has_groups_of_16_channels(meta_network: Callable[..., nn.Module]) -> None:
    assert groups(meta_network("d2l_regnetx", 96)) == [(32, 2), (80, 5)]


@pytest.mark.parametrize("name", NAMES)
def test_convolutions_have_biases_as_in_book(
    name: str, meta_network: Callable[..., nn.Module]
) -> None:
    layers = meta_network(name, 96).modules()
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [layer for layer in convolutions if layer.bias is None] == []


def bottleneck(in_channels: int, channels: int, groups: int) -> int:
    """Return the parameters of three convolutions with biases and their batch normalization."""
    weights = in_channels * channels + 9 * channels * channels // groups + channels * channels
    return weights + 3 * channels + 3 * 2 * channels


def projection(in_channels: int, channels: int) -> int:
    return in_channels * channels + channels + 2 * channels


def test_number_of_parameters_of_regnetx_matches_formula(
    num_parameters: Callable[..., int],
) -> None:
    stem = 9 * 32 + 32 + 2 * 32
    stage_1 = bottleneck(32, 32, 2) + projection(32, 32) + 3 * bottleneck(32, 32, 2)
    stage_2 = bottleneck(32, 80, 5) + projection(32, 80) + 5 * bottleneck(80, 80, 5)
    classifier = 80 * 10 + 10
    assert num_parameters("d2l_regnetx", 96) == stem + stage_1 + stage_2 + classifier


def test_number_of_parameters_of_resnext_matches_paper(num_parameters: Callable[..., int]) -> None:
    assert round(num_parameters("d2l_resnext", 224, 3, num_classes=1000) / 1e6) == 25


def test_number_of_multiply_adds_of_resnext_matches_paper(
    multiply_adds: Callable[..., int],
) -> None:
    assert round(multiply_adds("d2l_resnext", 224, 3, num_classes=1000) / 1e9, 1) == 4.2
