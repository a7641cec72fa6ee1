"""Network in Network, layer by layer."""

from collections.abc import Callable

import torch
from torch import nn

from cnnbench import models

Shapes = list[tuple[int, ...]]

BLOCK = ["Conv2d", "ReLU"] * 3


def test_map_shapes_match_book(output_shapes: Callable[..., Shapes]) -> None:
    assert output_shapes("nin", 224) == [
        *[(96, 54, 54)] * 3, (96, 26, 26),
        *[(256, 26, 26)] * 3, (256, 12, 12),
        *[(384, 12, 12)] * 3, (384, 5, 5),
        *[(10, 5, 5)] * 3, (10, 1, 1), (10,),
    ]  # fmt: skip


def test_layers_match_book(layer_names: Callable[..., list[str]]) -> None:
    assert layer_names("nin", 224) == [
        *[*BLOCK, "MaxPool2d"] * 3, "Dropout",
        *BLOCK, "AdaptiveAvgPool2d", "Flatten",
    ]  # fmt: skip


def test_two_1x1_convolutions_follow_each_convolution(
    meta_network: Callable[..., nn.Module],
) -> None:
    layers = [layer for layer in meta_network("nin", 224).modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size[0] for layer in layers] == [11, 1, 1, 5, 1, 1, 3, 1, 1, 3, 1, 1]


def test_number_of_parameters(num_parameters: Callable[..., int]) -> None:
    assert num_parameters("nin", 224) == 1_992_166


def test_number_of_multiply_adds(multiply_adds: Callable[..., int]) -> None:
    assert multiply_adds("nin", 224) == 762_297_352


def test_last_block_has_one_map_per_class(output_shapes: Callable[..., Shapes]) -> None:
    assert output_shapes("nin", 224, 3, num_classes=7)[-5:] == [*[(7, 5, 5)] * 3, (7, 1, 1), (7,)]


def test_logits_are_not_negative() -> None:
    torch.manual_seed(0)
    logits = models.build("nin", image_size=67)(torch.randn(2, 1, 67, 67))
    assert logits.min() >= 0


def test_dropout_argument_sets_rate(meta_network: Callable[..., nn.Module]) -> None:
    network = meta_network("nin", 224, dropout=0.25)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.25]
