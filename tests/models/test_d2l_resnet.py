"""ResNet-18 of Dive into Deep Learning, stage by stage."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnbench import models

Shapes = list[tuple[int, ...]]

BASIC = ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]
STAGES = [f"stages.{index}" for index in range(4)]


def test_map_shapes_match_book(stage_shapes: Callable[..., Shapes]) -> None:
    stages = ["stem.0", "stem", *STAGES, "classifier.0", "classifier"]
    assert stage_shapes(stages, "d2l_resnet18", 96) == [
        (64, 48, 48), (64, 24, 24),
        (64, 24, 24), (128, 12, 12), (256, 6, 6), (512, 3, 3),
        (512, 1, 1), (10,),
    ]  # fmt: skip


def test_number_of_blocks(meta_network: Callable[..., nn.Module]) -> None:
    stages = meta_network("d2l_resnet18", 96).get_submodule("stages").children()
    assert [len(list(stage.children())) for stage in stages] == [2, 2, 2, 2]


@pytest.mark.parametrize(("block", "projection"), [("stages.0.0", []), ("stages.1.0", ["Conv2d"])])
def test_block_adds_shortcut_before_last_activation(
    block: str,
    projection: list[str],
    meta_network: Callable[..., nn.Module],
    steps: Callable[[nn.Module], list[str]],
) -> None:
    network = meta_network("d2l_resnet18", 96)
    assert steps(network.get_submodule(block)) == [*BASIC, *projection, "+", "ReLU"]


def test_block_with_equal_shapes_adds_its_input() -> None:
    torch.manual_seed(0)
    network = models.build("d2l_resnet18", image_size=32).eval()
    block = network.get_submodule("stages.0.1")
    for parameter in ("weight", "bias"):
        nn.init.zeros_(block.get_parameter(f"residual.3.{parameter}"))
    maps = torch.randn(2, 64, 4, 4)
    torch.testing.assert_close(block(maps), maps.relu(), rtol=0, atol=0)


def test_stem_pools_over_3x3_pixels(meta_network: Callable[..., nn.Module]) -> None:
    layers = meta_network("d2l_resnet18", 96).modules()
    pools = [layer for layer in layers if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride) for pool in pools] == [(3, 2)]


def test_convolutions_have_biases_as_in_book(meta_network: Callable[..., nn.Module]) -> None:
    layers = meta_network("d2l_resnet18", 96).modules()
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [layer for layer in convolutions if layer.bias is None] == []


def test_number_of_parameters(num_parameters: Callable[..., int]) -> None:
    assert num_parameters("d2l_resnet18", 96) == 11_178_378


def test_number_of_multiply_adds(multiply_adds: Callable[..., int]) -> None:
    assert multiply_adds("d2l_resnet18", 96) == 318_657_536
