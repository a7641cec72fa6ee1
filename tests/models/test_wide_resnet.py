"""Wide ResNet: blocks compared with functional code, sizes with the tables of its paper."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]
Network = Callable[..., nn.Module]
Randomize = Callable[[nn.Module], None]

STAGES = ["stem", "stages.0", "stages.1", "stages.2", "classifier.2", "classifier"]
TABLE_4 = [  # depth, width, millions of parameters
    (40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (40, 8, 35.7), (28, 10, 36.5), (28, 12, 52.5),
    (22, 8, 17.2), (22, 10, 26.8), (16, 8, 11.0), (16, 10, 17.1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "k"), [("wide_resnet16_8", 8), ("wide_resnet28_10", 10), ("wide_resnet40_4", 4)]
)
def test_map_shapes_match_table_1(name: str, k: int, stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes(STAGES, name, 32) == [
        (16, 32, 32),
        (16 * k, 32, 32), (32 * k, 16, 16), (64 * k, 8, 8),
        (64 * k, 1, 1), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "n"), [("wide_resnet16_8", 2), ("wide_resnet28_10", 4), ("wide_resnet40_4", 6)]
)
def test_stages_have_n_blocks(name: str, n: int, meta_network: Network) -> None:
    stages = meta_network(name, 32).get_submodule("stages").children()
    assert [len(list(stage.children())) for stage in stages] == [n] * 3


@pytest.mark.parametrize("name", ["wide_resnet16_8", "wide_resnet28_10", "wide_resnet40_4"])
def test_depth_is_number_of_convolutions(name: str, meta_network: Network) -> None:
    layers = meta_network(name, 32).modules()
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert name.startswith(f"wide_resnet{len(convolutions)}_")


@pytest.mark.parametrize(("depth", "width", "millions"), TABLE_4)
def test_number_of_parameters_matches_table_4(
    depth: int, width: int, millions: float, num_parameters: Callable[..., int]
) -> None:
    parameters = num_parameters("wide_resnet28_10", 32, 3, depth=depth, width=width)
    assert round(parameters / 1e6, 1) == millions


def test_number_of_multiply_adds_matches_formula(multiply_adds: Callable[..., int]) -> None:
    stem = 9 * 3 * 16 * 32 * 32
    stage_1 = (9 * 16 * 128 + 16 * 128 + 3 * 9 * 128 * 128) * 32 * 32  # 16 * 128: the projection
    stage_2 = (9 * 128 * 256 + 128 * 256 + 3 * 9 * 256 * 256) * 16 * 16
    stage_3 = (9 * 256 * 512 + 256 * 512 + 3 * 9 * 512 * 512) * 8 * 8
    expected = stem + stage_1 + stage_2 + stage_3 + 512 * 10
    assert multiply_adds("wide_resnet16_8", 32, 3) == expected


@pytest.fixture
def block_of(randomize: Randomize) -> Callable[..., nn.Module]:
    """Return a function for a block in eval mode, with random weights, of WRN-16-2."""

    def make(key: str, **arguments: float) -> nn.Module:
        network = models.build("wide_resnet16_8", image_size=8, **{"width": 2, **arguments}).eval()
        randomize(network)
        return network.get_submodule(key)

    return make


def activated(norm: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """Apply batch normalization and ReLU."""
    assert isinstance(norm, nn.BatchNorm2d)
    statistics = (norm.running_mean, norm.running_var)
    return functional.batch_norm(maps, *statistics, norm.weight, norm.bias).relu()


def branch(block: nn.Module, maps: torch.Tensor, stride: int) -> torch.Tensor:
    """Apply the two 3x3 convolutions to activated maps."""
    first, second = (block.get_parameter(f"residual.{index}.weight") for index in (0, 4))
    maps = functional.conv2d(maps, first, stride=stride, padding=1)
    maps = activated(block.get_submodule("residual.1"), maps)
    return functional.conv2d(maps, second, padding=1)


@pytest.mark.parametrize(
    ("key", "channels", "stride"), [("stages.0.0", 16, 1), ("stages.1.0", 32, 2)]
)
def test_first_block_of_stage_projects_activated_maps(
    key: str, channels: int, stride: int, block_of: Network
) -> None:
    block, maps = block_of(key), torch.randn(2, channels, 5, 5)
    before = activated(block.get_submodule("activation.0"), maps)
    projected = functional.conv2d(before, block.get_parameter("shortcut.weight"), stride=stride)
    torch.testing.assert_close(block(maps), projected + branch(block, before, stride))


@pytest.mark.parametrize(
    ("key", "width", "channels"), [("stages.0.1", 2, 32), ("stages.0.0", 1, 16)]
)
def test_block_with_equal_channels_adds_its_input(
    key: str, width: int, channels: int, block_of: Network
) -> None:
    block, maps = block_of(key, width=width), torch.randn(2, channels, 5, 5)
    expected = maps + branch(block, activated(block.get_submodule("activation.0"), maps), 1)
    torch.testing.assert_close(block(maps), expected)


def test_classifier_is_bn_relu_global_average_linear(
    meta_network: Network, steps: Callable[[nn.Module], list[str]]
) -> None:
    assert steps(meta_network("wide_resnet16_8", 32).get_submodule("classifier")) == [
        "BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear",
    ]  # fmt: skip


def test_dropout_is_between_convolutions_of_block(
    meta_network: Network, steps: Callable[[nn.Module], list[str]]
) -> None:
    block = meta_network("wide_resnet16_8", 32, dropout=0.3).get_submodule("stages.0.1")
    expected = ["Conv2d", "BatchNorm2d", "ReLU", "Dropout", "Conv2d"]
    assert steps(block.get_submodule("residual")) == expected


def test_dropout_argument_reaches_all_blocks(meta_network: Network) -> None:
    layers = meta_network("wide_resnet16_8", 32, dropout=0.3).modules()
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.3] * 6


def test_convolutions_have_no_bias(meta_network: Network) -> None:
    layers = meta_network("wide_resnet16_8", 32).modules()
    assert {layer.bias for layer in layers if isinstance(layer, nn.Conv2d)} == {None}


@pytest.mark.parametrize(
    ("depth", "nearest"),
    [(17, "16 and 22"), (29, "28 and 34"), (4, "10 and 16"), (-50, "10 and 16")],
)
def test_invalid_depth_error_lists_nearest_depths(
    depth: int, nearest: str, meta_network: Network
) -> None:
    with pytest.raises(
        ConfigError, match=rf"depth={depth} must be 6n \+ 4; the nearest are {nearest}\."
    ):
        meta_network("wide_resnet28_10", 32, depth=depth)


@pytest.mark.parametrize("width", [0, -8])
def test_width_below_1_raises(width: int, meta_network: Network) -> None:
    with pytest.raises(ConfigError, match=rf"width={width} must be at least 1"):
        meta_network("wide_resnet28_10", 32, width=width)
