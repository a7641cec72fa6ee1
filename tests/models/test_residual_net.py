"""The small network with residual blocks of the course notes, layer by layer."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnbench import models

Shapes = list[tuple[int, ...]]


def test_map_shapes_match_notes(stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes([f"layers.{layer}" for layer in range(10)], "residual_net", 28) == [
        (16, 24, 24), (16, 24, 24), (16, 12, 12), (16, 12, 12),
        (32, 8, 8), (32, 8, 8), (32, 4, 4), (32, 4, 4), (512,), (10,),
    ]  # fmt: skip


def test_has_no_normalization(layer_names: Callable[..., list[str]]) -> None:
    kinds = {"Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear"}
    assert set(layer_names("residual_net", 28)) == kinds


@pytest.mark.parametrize("layer", [3, 7])
def test_block_adds_input_before_last_activation(
    layer: int, meta_network: Callable[..., nn.Module], steps: Callable[[nn.Module], list[str]]
) -> None:
    block = meta_network("residual_net", 28).get_submodule(f"layers.{layer}")
    assert steps(block) == ["Conv2d", "ReLU", "Conv2d", "+", "ReLU"]


@pytest.mark.parametrize(("layer", "channels"), [(3, 16), (7, 32)])
def test_block_has_two_3x3_convolutions(
    layer: int,
    channels: int,
    meta_network: Callable[..., nn.Module],
    convolutions: Callable[[nn.Module], list[tuple[int, int, int]]],
) -> None:
    block = meta_network("residual_net", 28).get_submodule(f"layers.{layer}")
    assert convolutions(block) == [(channels, channels, 3)] * 2


def test_block_adds_its_input() -> None:
    torch.manual_seed(0)
    block, maps = models.build("residual_net").get_submodule("layers.3"), torch.randn(2, 16, 4, 4)
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))
    torch.testing.assert_close(block(maps), maps.relu(), rtol=0, atol=0)


def test_number_of_parameters(num_parameters: Callable[..., int]) -> None:
    assert num_parameters("residual_net", 28) == 41_514


def test_number_of_multiply_adds(multiply_adds: Callable[..., int]) -> None:
    assert multiply_adds("residual_net", 28) == 2_013_184
