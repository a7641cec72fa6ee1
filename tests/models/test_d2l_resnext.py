"""The book's ResNet-18, DenseNet, ResNeXt and RegNetX, stage by stage."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench import models

Shapes = list[tuple[int, ...]]

NAMES = ["d2l_resnet18", "d2l_densenet", "d2l_resnext", "d2l_regnetx"]
BASIC = ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]
BOTTLENECK = ["Conv2d", "BatchNorm2d", "ReLU", *BASIC]


def test_resnet18_has_the_maps_of_the_book(stage_shapes: Callable[..., Shapes]) -> None:
    stages = [
        "stem.0",
        "stem",
        "stages.0",
        "stages.1",
        "stages.2",
        "stages.3",
        "classifier.0",
        "classifier",
    ]
    assert stage_shapes(stages, "d2l_resnet18", 96) == [
        (64, 48, 48), (64, 24, 24),
        (64, 24, 24), (128, 12, 12), (256, 6, 6), (512, 3, 3),
        (512, 1, 1), (10,),
    ]  # fmt: skip


def test_densenet_has_the_maps_of_the_book(stage_shapes: Callable[..., Shapes]) -> None:
    stages = [
        "stem.0",
        "stem",
        *(f"blocks.{index}" for index in range(7)),
        "classifier.2",
        "classifier",
    ]
    assert stage_shapes(stages, "d2l_densenet", 96) == [
        (64, 48, 48), (64, 24, 24),
        (192, 24, 24), (96, 12, 12),
        (224, 12, 12), (112, 6, 6),
        (240, 6, 6), (120, 3, 3),
        (248, 3, 3), (248, 1, 1), (10,),
    ]  # fmt: skip


def test_resnext_has_the_maps_of_its_paper(stage_shapes: Callable[..., Shapes]) -> None:
    stages = [
        "stem.0",
        "stem",
        "stages.0",
        "stages.1",
        "stages.2",
        "stages.3",
        "classifier.0",
        "classifier",
    ]
    assert stage_shapes(stages, "d2l_resnext", 224) == [
        (64, 112, 112), (64, 56, 56),
        (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7),
        (2048, 1, 1), (10,),
    ]  # fmt: skip


def test_regnetx_has_the_maps_of_the_book(stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes(["stem", "stages.0", "stages.1", "classifier.0", "classifier"], "d2l_regnetx", 96) == [
        (32, 48, 48), (32, 24, 24), (80, 12, 12), (80, 1, 1), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("d2l_resnet18", [2, 2, 2, 2]), ("d2l_resnext", [3, 4, 6, 3]), ("d2l_regnetx", [4, 6])],
)
def test_number_of_blocks(
    name: str, blocks: list[int], meta_network: Callable[..., nn.Module]
) -> None:
    stages = meta_network(name, 96).get_submodule("stages").children()
    assert [len(list(stage.children())) for stage in stages] == blocks


@pytest.mark.parametrize(
    ("name", "block", "branch", "projection"),
    [
        ("d2l_resnet18", "stages.0.0", BASIC, []),
        ("d2l_resnet18", "stages.1.0", BASIC, ["Conv2d"]),
        ("d2l_resnext", "stages.0.0", BOTTLENECK, ["Conv2d", "BatchNorm2d"]),
        ("d2l_resnext", "stages.0.1", BOTTLENECK, []),
        ("d2l_regnetx", "stages.0.0", BOTTLENECK, ["Conv2d", "BatchNorm2d"]),
        ("d2l_regnetx", "stages.1.1", BOTTLENECK, []),
    ],
)
def test_a_block_adds_its_shortcut_before_its_last_activation(
    name: str,
    block: str,
    branch: list[str],
    projection: list[str],
    meta_network: Callable[..., nn.Module],
    steps: Callable[[nn.Module], list[str]],
) -> None:
    assert steps(meta_network(name, 96).get_submodule(block)) == [*branch, *projection, "+", "ReLU"]


@pytest.mark.parametrize(
    ("name", "last"), [("d2l_resnet18", 3), ("d2l_resnext", 6), ("d2l_regnetx", 6)]
)
def test_a_block_of_one_size_adds_its_input(name: str, last: int) -> None:
    torch.manual_seed(0)
    block = models.build(name, image_size=32).eval().get_submodule("stages.0.1")
    for parameter in ("weight", "bias"):
        nn.init.zeros_(block.get_parameter(f"residual.{last}.{parameter}"))
    maps = torch.randn(2, {"d2l_resnet18": 64, "d2l_resnext": 256, "d2l_regnetx": 32}[name], 4, 4)
    torch.testing.assert_close(block(maps), maps.relu(), rtol=0, atol=0)


def test_a_layer_of_densenet_passes_on_what_it_sees_before_what_it_adds() -> None:
    torch.manual_seed(0)
    layer, maps = (
        models.build("d2l_densenet", image_size=32).get_submodule("blocks.0.0"),
        torch.randn(2, 64, 4, 4),
    )
    added = functional.conv2d(
        functional.batch_norm(maps, None, None, training=True).relu(),
        layer.get_parameter("layers.2.weight"), layer.get_parameter("layers.2.bias"), padding=1,
    )  # fmt: skip
    torch.testing.assert_close(layer(maps), torch.cat([maps, added], dim=1))


def test_densenet_has_the_layers_of_the_book(layer_names: Callable[..., list[str]]) -> None:
    dense_block = ["BatchNorm2d", "ReLU", "Conv2d"] * 4
    transition = ["BatchNorm2d", "ReLU", "Conv2d", "AvgPool2d"]
    assert layer_names("d2l_densenet", 96) == [
        "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d",
        *[*dense_block, *transition] * 3, *dense_block,
        "BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["d2l_resnet18", "d2l_densenet", "d2l_resnext"])
def test_the_stem_pools_over_3x3_pixels(name: str, meta_network: Callable[..., nn.Module]) -> None:
    pools = [layer for layer in meta_network(name, 96).modules() if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride) for pool in pools] == [(3, 2)]


def groups(network: nn.Module) -> list[tuple[int, int]]:
    """Channels and groups of each stage's 3x3 convolutions."""
    convs = [
        layer for layer in network.get_submodule("stages").modules() if isinstance(layer, nn.Conv2d)
    ]
    return sorted(
        {(conv.out_channels, conv.groups) for conv in convs if conv.kernel_size == (3, 3)}
    )


def test_resnext_is_32x4d(meta_network: Callable[..., nn.Module]) -> None:
    assert groups(meta_network("d2l_resnext", 224)) == [(128, 32), (256, 32), (512, 32), (1024, 32)]


def test_regnetx_has_groups_of_16_channels(meta_network: Callable[..., nn.Module]) -> None:
    assert groups(meta_network("d2l_regnetx", 96)) == [(32, 2), (80, 5)]


@pytest.mark.parametrize("name", NAMES)
def test_every_convolution_has_a_bias_as_in_the_book(
    name: str, meta_network: Callable[..., nn.Module]
) -> None:
    convs = [layer for layer in meta_network(name, 96).modules() if isinstance(layer, nn.Conv2d)]
    assert [layer for layer in convs if layer.bias is None] == []


def bottleneck(in_channels: int, channels: int, groups: int) -> int:
    """Parameters of three convolutions of `channels`, with biases, and their batch normalisation."""
    weights = in_channels * channels + 9 * channels * channels // groups + channels * channels
    return weights + 3 * channels + 3 * 2 * channels


def projection(in_channels: int, channels: int) -> int:
    return in_channels * channels + channels + 2 * channels


REGNETX = [
    9 * 32 + 32 + 2 * 32,
    bottleneck(32, 32, 2) + projection(32, 32) + 3 * bottleneck(32, 32, 2),
    bottleneck(32, 80, 5) + projection(32, 80) + 5 * bottleneck(80, 80, 5),
    80 * 10 + 10,
]  # parameters of the stem, the two stages and the linear layer


@pytest.mark.parametrize(
    ("name", "expected"),
    [("d2l_resnet18", 11_178_378), ("d2l_densenet", 758_226), ("d2l_regnetx", sum(REGNETX))],
)
def test_number_of_parameters(name: str, expected: int, num_parameters: Callable[..., int]) -> None:
    assert num_parameters(name, 96) == expected


def test_number_of_parameters_of_resnext_is_that_of_its_paper(
    num_parameters: Callable[..., int],
) -> None:
    assert round(num_parameters("d2l_resnext", 224, 3, num_classes=1000) / 1e6) == 25


@pytest.mark.parametrize(
    ("name", "expected"), [("d2l_resnet18", 318_657_536), ("d2l_densenet", 129_077_168)]
)
def test_number_of_multiply_adds(
    name: str, expected: int, multiply_adds: Callable[..., int]
) -> None:
    assert multiply_adds(name, 96) == expected


def test_number_of_multiply_adds_of_resnext_is_that_of_its_paper(
    multiply_adds: Callable[..., int],
) -> None:
    assert round(multiply_adds("d2l_resnext", 224, 3, num_classes=1000) / 1e9, 1) == 4.2
