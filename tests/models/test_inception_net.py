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
