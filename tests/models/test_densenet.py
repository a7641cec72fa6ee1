"""DenseNet, block by block, compared with the tables of its paper."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]

BLOCKS = [f"blocks.{index}" for index in range(7)]
BN_RELU_CONV = ["BatchNorm2d", "ReLU", "Conv2d"]


# The shallowest networks: their layers and transitions are those of all depths.
SMALL: list[tuple[str, dict[str, int]]] = [
    ("densenet121", {}), ("densenet40", {"depth": 10}), ("densenet_bc100", {"depth": 16}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "last"),
    [
        (121, [1024, 512, 1024]),
        (169, [1280, 640, 1664]),
        (201, [1792, 896, 1920]),
        (264, [2304, 1152, 2688]),
    ],
)
def test_map_shapes_match_table_1(
    depth: int, last: list[int], stage_shapes: Callable[..., Shapes]
) -> None:
    block_3, transition_3, block_4 = last
    stages = ["stem.0", "stem", *BLOCKS, "classifier.2", "classifier"]
    assert stage_shapes(stages, f"densenet{depth}", 224) == [
        (64, 112, 112), (64, 56, 56),
        (256, 56, 56), (128, 28, 28),
        (512, 28, 28), (256, 14, 14),
        (block_3, 14, 14), (transition_3, 7, 7),
        (block_4, 7, 7), (block_4, 1, 1), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "channels"),
    [
        ("densenet40", {}, [16, 160, 160, 304, 304, 448]),
        ("densenet100", {}, [16, 400, 400, 784, 784, 1168]),
        ("densenet100", {"growth_rate": 24}, [16, 784, 784, 1552, 1552, 2320]),
        ("densenet_bc100", {}, [24, 216, 108, 300, 150, 342]),
        ("densenet_bc250", {}, [48, 1032, 516, 1500, 750, 1734]),
        ("densenet_bc190", {}, [80, 1320, 660, 1900, 950, 2190]),
    ],
)
def test_cifar_map_shapes_match_formula(
    name: str, arguments: dict[str, int], channels: list[int], stage_shapes: Callable[..., Shapes]
) -> None:
    stages = ["stem", *BLOCKS[:5], "classifier.2", "classifier"]
    maps = [(c, side, side) for c, side in zip(channels, [32, 32, 16, 16, 8, 8], strict=True)]
    assert stage_shapes(stages, name, 32, **arguments) == [*maps, (channels[-1], 1, 1), (10,)]


@pytest.mark.parametrize(
    ("name", "arguments", "millions"),
    [
        ("densenet40", {}, 1.0),
        ("densenet100", {}, 7.0),
        ("densenet100", {"growth_rate": 24}, 27.2),
        ("densenet_bc100", {}, 0.8),
        ("densenet_bc250", {}, 15.3),
        ("densenet_bc190", {}, 25.6),
    ],
)
def test_number_of_parameters_matches_table_2(
    name: str, arguments: dict[str, int], millions: float, num_parameters: Callable[..., int]
) -> None:
    assert round(num_parameters(name, 32, 3, **arguments) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("densenet121", ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]),
        ("densenet40", []),
        ("densenet_bc100", []),
    ],
)
def test_only_imagenet_stem_has_normalization_and_pooling(
    name: str, stem: list[str], meta_network: Callable[..., nn.Module]
) -> None:
    layers = meta_network(name, 32).get_submodule("stem").children()
    assert [type(layer).__name__ for layer in layers] == stem


@pytest.mark.parametrize(("name", "arguments"), [SMALL[0], SMALL[2]])
def test_layer_with_bottleneck_is_bn_relu_conv_twice(
    name: str,
    arguments: dict[str, int],
    meta_network: Callable[..., nn.Module],
    steps: Callable[[nn.Module], list[str]],
) -> None:
    layer = meta_network(name, 32, **arguments).get_submodule("blocks.0.0")
    assert steps(layer) == [*BN_RELU_CONV, "Dropout", *BN_RELU_CONV, "Dropout"]


def test_layer_without_bottleneck_is_bn_relu_conv(
    meta_network: Callable[..., nn.Module], steps: Callable[[nn.Module], list[str]]
) -> None:
    assert steps(meta_network("densenet40", 32).get_submodule("blocks.0.0")) == [
        *BN_RELU_CONV,
        "Dropout",
    ]


@pytest.mark.parametrize(("name", "arguments"), SMALL)
def test_transition_pools_after_convolution(
    name: str,
    arguments: dict[str, int],
    meta_network: Callable[..., nn.Module],
    steps: Callable[[nn.Module], list[str]],
) -> None:
    assert steps(meta_network(name, 32, **arguments).get_submodule("blocks.1")) == [
        *BN_RELU_CONV,
        "Dropout",
        "AvgPool2d",
    ]


@pytest.mark.parametrize(("name", "arguments"), SMALL)
def test_classifier_is_bn_relu_global_average_linear(
    name: str,
    arguments: dict[str, int],
    meta_network: Callable[..., nn.Module],
    steps: Callable[[nn.Module], list[str]],
) -> None:
    assert steps(meta_network(name, 32, **arguments).get_submodule("classifier")) == [
        "BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear",
    ]  # fmt: skip


def test_bottleneck_has_four_times_growth_rate(
    meta_network: Callable[..., nn.Module],
) -> None:
    layers = meta_network("densenet_bc100", 32).get_submodule("blocks.0.3").modules()
    convs = [
        (c.in_channels, c.out_channels, c.kernel_size) for c in layers if isinstance(c, nn.Conv2d)
    ]
    assert convs == [(24 + 3 * 12, 48, (1, 1)), (48, 12, (3, 3))]


@pytest.mark.parametrize(
    ("name", "depth", "channels"), [("densenet40", 10, 16), ("densenet_bc100", 16, 24)]
)
def test_layer_output_starts_with_its_input(name: str, depth: int, channels: int) -> None:
    torch.manual_seed(0)
    layer = models.build(name, image_size=8, depth=depth).get_submodule("blocks.0.0")
    maps = torch.randn(2, channels, 4, 4)
    joined = layer(maps)
    torch.testing.assert_close(joined[:, : maps.shape[1]], maps, rtol=0, atol=0)
    assert joined.shape[1] == maps.shape[1] + 12


@pytest.mark.parametrize(("name", "arguments"), SMALL)
def test_convolutions_have_no_bias(
    name: str, arguments: dict[str, int], meta_network: Callable[..., nn.Module]
) -> None:
    layers = meta_network(name, 32, **arguments).modules()
    assert {layer.bias for layer in layers if isinstance(layer, nn.Conv2d)} == {None}


@pytest.mark.parametrize(("name", "arguments"), SMALL)
def test_dropout_follows_every_convolution_but_the_first(
    name: str, arguments: dict[str, int], layer_names: Callable[..., list[str]]
) -> None:
    names = layer_names(name, 32, dropout=0.2, **arguments)
    next_layers = [next_layer for layer, next_layer in pairwise(names) if layer == "Conv2d"]
    assert next_layers == ["BatchNorm2d"] + ["Dropout"] * (len(next_layers) - 1)


def test_dropout_argument_sets_rate(meta_network: Callable[..., nn.Module]) -> None:
    layers = meta_network("densenet40", 32, dropout=0.2).modules()
    assert {layer.p for layer in layers if isinstance(layer, nn.Dropout)} == {0.2}


def test_compression_without_bottleneck_keeps_16_channels_in_stem(
    stage_shapes: Callable[..., Shapes],
) -> None:
    assert stage_shapes(["stem", "blocks.0", "blocks.1"], "densenet40", 32, compression=0.5) == [
        (16, 32, 32), (160, 32, 32), (80, 16, 16),
    ]  # fmt: skip


def test_bottleneck_without_compression_keeps_16_channels_in_stem(
    stage_shapes: Callable[..., Shapes],
) -> None:
    assert stage_shapes(["stem", "blocks.0", "blocks.1"], "densenet40", 32, bottleneck=True) == [
        (16, 32, 32), (88, 32, 32), (88, 16, 16),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "bottleneck", "nearest"),
    [
        (41, False, "40 and 43"),
        (101, True, "100 and 106"),
        (4, False, "7 and 10"),
        (4, True, "10 and 16"),
    ],
)
def test_invalid_depth_error_lists_nearest_depths(
    depth: int, bottleneck: bool, nearest: str, meta_network: Callable[..., nn.Module]
) -> None:
    with pytest.raises(
        ConfigError, match=rf"depth={depth} must be .*; the nearest are {nearest}\."
    ):
        meta_network("densenet40", 32, depth=depth, bottleneck=bottleneck)


def test_depth_outside_table_1_raises(meta_network: Callable[..., nn.Module]) -> None:
    with pytest.raises(ConfigError, match=r"depth=161 .* Allowed: 121, 169, 201, 264\."):
        meta_network("densenet121", 32, depth=161)


@pytest.mark.parametrize("name", ["densenet121", "densenet40"])
@pytest.mark.parametrize(
    ("argument", "value"),
    [("growth_rate", 0), ("compression", 0.0), ("compression", 1.1), ("compression", -0.5)],
)
def test_growth_rate_or_compression_out_of_range_raises(
    name: str, argument: str, value: float, meta_network: Callable[..., nn.Module]
) -> None:
    with pytest.raises(ConfigError, match=f"{argument}={value} must be"):
        meta_network(name, 32, **{argument: value})
