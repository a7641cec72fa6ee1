"""DenseNet of Dive into Deep Learning, block by block."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from cnnbench import models

Shapes = list[tuple[int, ...]]


def test_map_shapes_match_book(stage_shapes: Callable[..., Shapes]) -> None:
    blocks = [f"blocks.{index}" for index in range(7)]
    stages = ["stem.0", "stem", *blocks, "classifier.2", "classifier"]
    assert stage_shapes(stages, "d2l_densenet", 96) == [
        (64, 48, 48), (64, 24, 24),
        (192, 24, 24), (96, 12, 12),
        (224, 12, 12), (112, 6, 6),
        (240, 6, 6), (120, 3, 3),
        (248, 3, 3), (248, 1, 1), (10,),
    ]  # fmt: skip


def test_layers_match_book(layer_names: Callable[..., list[str]]) -> None:
    dense_block = ["BatchNorm2d", "ReLU", "Conv2d"] * 4
    transition = ["BatchNorm2d", "ReLU", "Conv2d", "AvgPool2d"]
    assert layer_names("d2l_densenet", 96) == [
        "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d",
        *[*dense_block, *transition] * 3, *dense_block,
        "BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear",
    ]  # fmt: skip


def test_layer_output_starts_with_its_input() -> None:
    torch.manual_seed(0)
    layer = models.build("d2l_densenet", image_size=32).get_submodule("blocks.0.0")
    maps = torch.randn(2, 64, 4, 4)
    activated = functional.batch_norm(maps, None, None, training=True).relu()
    weight, bias = layer.get_parameter("layers.2.weight"), layer.get_parameter("layers.2.bias")
    added = functional.conv2d(activated, weight, bias, padding=1)
    torch.testing.assert_close(layer(maps), torch.cat([maps, added], dim=1))


def test_stem_pools_over_3x3_pixels(meta_network: Callable[..., nn.Module]) -> None:
    layers = meta_network("d2l_densenet", 96).modules()
    pools = [layer for layer in layers if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride) for pool in pools] == [(3, 2)]


def test_convolutions_have_biases_as_in_book(meta_network: Callable[..., nn.Module]) -> None:
    layers = meta_network("d2l_densenet", 96).modules()
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [layer for layer in convolutions if layer.bias is None] == []


def test_number_of_parameters(num_parameters: Callable[..., int]) -> None:
    assert num_parameters("d2l_densenet", 96) == 758_226


def test_number_of_multiply_adds(multiply_adds: Callable[..., int]) -> None:
    assert multiply_adds("d2l_densenet", 96) == 129_077_168
