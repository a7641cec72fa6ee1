"""ResNet, stage by stage, compared with the tables of its paper."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]

STAGES = [
    *("stem.0", "stem", "stages.0", "stages.1", "stages.2", "stages.3"),
    *("classifier.0", "classifier"),
]
CIFAR_STAGES = ["stem", "stages.0", "stages.1", "stages.2", "classifier.0", "classifier"]
BASIC, BOTTLENECK = [18, 34], [50, 101, 152]


@pytest.mark.parametrize("depth", BASIC)
def test_map_shapes_with_basic_blocks_match_table_1(
    depth: int, stage_shapes: Callable[..., Shapes]
) -> None:
    assert stage_shapes(STAGES, f"resnet{depth}", 224) == [
        (64, 112, 112), (64, 56, 56),
        (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7),
        (512, 1, 1), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize("depth", BOTTLENECK)
def test_map_shapes_with_bottlenecks_match_table_1(
    depth: int, stage_shapes: Callable[..., Shapes]
) -> None:
    assert stage_shapes(STAGES, f"resnet{depth}", 224) == [
        (64, 112, 112), (64, 56, 56),
        (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7),
        (2048, 1, 1), (10,),
    ]  # fmt: skip


def test_small_stem_keeps_image_size(stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes(STAGES, "resnet18", 32, stem="small") == [
        (64, 32, 32), (64, 32, 32),
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4),
        (512, 1, 1), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [
        (18, [2, 2, 2, 2]),
        (34, [3, 4, 6, 3]),
        (50, [3, 4, 6, 3]),
        (101, [3, 4, 23, 3]),
        (152, [3, 8, 36, 3]),
    ],
)
def test_number_of_blocks_matches_table_1(
    depth: int, blocks: list[int], meta_network: Callable[..., nn.Module]
) -> None:
    stages = meta_network(f"resnet{depth}", 32).get_submodule("stages").children()
    assert [len(list(stage.children())) for stage in stages] == blocks


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20"])
def test_convolutions_have_no_bias(name: str, meta_network: Callable[..., nn.Module]) -> None:
    layers = meta_network(name, 32).modules()
    assert {layer.bias for layer in layers if isinstance(layer, nn.Conv2d)} == {None}


@pytest.mark.parametrize(
    ("name", "arguments", "pooling"),
    [("resnet18", {}, ["MaxPool2d"]), ("resnet18", {"stem": "small"}, []), ("resnet20", {}, [])],
)
def test_layers_of_stem(
    name: str,
    arguments: dict[str, str],
    pooling: list[str],
    meta_network: Callable[..., nn.Module],
    steps: Callable[[nn.Module], list[str]],
) -> None:
    stem = meta_network(name, 32, **arguments).get_submodule("stem")
    assert steps(stem) == ["Conv2d", "BatchNorm2d", "ReLU", *pooling]


BASIC_BLOCK = ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]
BOTTLENECK_BLOCK = ["Conv2d", "BatchNorm2d", "ReLU", *BASIC_BLOCK]
PROJECTION = ["Conv2d", "BatchNorm2d"]


@pytest.mark.parametrize(
    ("name", "block", "expected"),
    [
        ("resnet18", "stages.0.0", BASIC_BLOCK),
        ("resnet18", "stages.1.0", [*BASIC_BLOCK, *PROJECTION]),
        ("resnet18", "stages.1.1", BASIC_BLOCK),
        ("resnet50", "stages.0.0", [*BOTTLENECK_BLOCK, *PROJECTION]),
        ("resnet50", "stages.0.1", BOTTLENECK_BLOCK),
        ("resnet50", "stages.1.0", [*BOTTLENECK_BLOCK, *PROJECTION]),
        ("resnet20", "stages.0.0", BASIC_BLOCK),
        ("resnet20", "stages.1.0", [*BASIC_BLOCK, "AvgPool2d", "ConstantPad3d"]),
    ],
)
def test_block_adds_shortcut_before_last_activation(
    name: str,
    block: str,
    expected: list[str],
    meta_network: Callable[..., nn.Module],
    steps: Callable[[nn.Module], list[str]],
) -> None:
    assert steps(meta_network(name, 32).get_submodule(block)) == [*expected, "+", "ReLU"]


@pytest.mark.parametrize(
    ("name", "layer", "kernel"), [("resnet18", 0, (3, 3)), ("resnet50", 3, (3, 3))]
)
def test_first_3x3_convolution_of_stage_halves_map(
    name: str, layer: int, kernel: tuple[int, int], meta_network: Callable[..., nn.Module]
) -> None:
    residual = meta_network(name, 32).get_submodule("stages.1.0.residual")
    strides = [layer.stride for layer in residual.modules() if isinstance(layer, nn.Conv2d)]
    conv = residual.get_submodule(str(layer))
    assert isinstance(conv, nn.Conv2d)
    assert (conv.kernel_size, conv.stride, strides.count((2, 2))) == (kernel, (2, 2), 1)


def test_number_of_parameters_with_small_stem_matches_pytorch_cifar(
    num_parameters: Callable[..., int],
) -> None:
    assert num_parameters("resnet18", 32, 3, stem="small") == 11_173_962


def stride_in_the_1x1(network: nn.Module) -> nn.Module:
    """Halve the map in the first convolution of each bottleneck, as the authors' models do."""
    for key, block in network.named_modules():
        convs = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
        if key.endswith("residual") and len(convs) == 3:
            convs[0].stride, convs[1].stride = convs[1].stride, convs[0].stride
    return network


# Our counts are 1.81, 3.66, 3.86, 7.57 and 11.28. The paper rounds the counts of depths 18, 101 and
# 152, and truncates those of 34 and 50: all five are less than a unit of the last digit away.
FLOPS_OF_PAPER = [(18, 1.8), (34, 3.6), (50, 3.8), (101, 7.6), (152, 11.3)]


@pytest.mark.parametrize(("depth", "billions"), FLOPS_OF_PAPER)
def test_number_of_multiply_adds_with_strides_of_authors_matches_table_1(
    depth: int,
    billions: float,
    meta_network: Callable[..., nn.Module],
    count_multiply_adds: Callable[..., int],
) -> None:
    network = stride_in_the_1x1(meta_network(f"resnet{depth}", 224, 3, num_classes=1000))
    assert count_multiply_adds(network, 224, 3) / 1e9 == pytest.approx(billions, abs=0.07)


def test_stride_in_3x3_costs_three_wider_1x1_convolutions(
    meta_network: Callable[..., nn.Module], count_multiply_adds: Callable[..., int]
) -> None:
    ours = count_multiply_adds(meta_network("resnet50", 224), 224)
    theirs = count_multiply_adds(stride_in_the_1x1(meta_network("resnet50", 224)), 224)
    # The 1x1 convolution runs on four times the pixels: three more for each pixel of the output.
    shapes = [(28, 256, 128), (14, 512, 256), (7, 1024, 512)]
    more = [3 * side * side * wide * narrow for side, wide, narrow in shapes]
    assert ours - theirs == sum(more)


@pytest.mark.parametrize("depth", [20, 56, 110])
def test_cifar_map_shapes_match_section_4_2(
    depth: int, stage_shapes: Callable[..., Shapes]
) -> None:
    assert stage_shapes(CIFAR_STAGES, f"resnet{depth}", 32) == [
        (16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (64, 1, 1), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize(("depth", "blocks"), [(20, 3), (32, 5), (44, 7), (56, 9), (110, 18)])
def test_cifar_stages_have_n_blocks(
    depth: int, blocks: int, meta_network: Callable[..., nn.Module]
) -> None:
    stages = meta_network("resnet20", 32, depth=depth).get_submodule("stages").children()
    assert [len(list(stage.children())) for stage in stages] == [blocks] * 3


@pytest.mark.parametrize(
    ("depth", "millions", "decimals"),
    [(20, 0.27, 2), (32, 0.46, 2), (44, 0.66, 2), (56, 0.85, 2), (110, 1.7, 1)],
)
def test_number_of_parameters_for_cifar_matches_table_6(
    depth: int, millions: float, decimals: int, num_parameters: Callable[..., int]
) -> None:
    assert round(num_parameters("resnet20", 32, 3, depth=depth) / 1e6, decimals) == millions


@pytest.mark.parametrize("size", [8, 7])
def test_cifar_shortcut_subsamples_and_pads_with_zeros(
    size: int,
) -> None:
    torch.manual_seed(0)
    block = models.build("resnet20", image_size=32).eval().get_submodule("stages.1.0")
    nn.init.zeros_(block.get_parameter("residual.3.weight"))  # only the shortcut remains
    maps = torch.randn(2, 16, size, size)
    expected = functional.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, 0, 16)).relu()
    torch.testing.assert_close(block(maps), expected, rtol=0, atol=0)


def test_block_adds_its_input() -> None:
    torch.manual_seed(0)
    block = models.build("resnet20", image_size=32).eval().get_submodule("stages.0.1")
    nn.init.zeros_(block.get_parameter("residual.3.weight"))
    maps = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(block(maps), maps.relu(), rtol=0, atol=0)


def test_cifar_shortcuts_have_no_weights(meta_network: Callable[..., nn.Module]) -> None:
    def has_weights(name: str) -> bool:
        return any("shortcut" in key for key, _ in meta_network(name, 32).named_parameters())

    assert not has_weights("resnet20")
    assert has_weights("resnet18")


def test_depth_outside_table_1_raises(meta_network: Callable[..., nn.Module]) -> None:
    with pytest.raises(ConfigError, match=r"depth=35 .* Allowed: 18, 34, 50, 101, 152\."):
        meta_network("resnet18", 32, depth=35)


@pytest.mark.parametrize(
    ("depth", "nearest"), [(21, "20, 26"), (25, "20, 26"), (111, "110, 116"), (2, "8, 14")]
)
def test_cifar_depth_error_lists_nearest_depths(
    depth: int, nearest: str, meta_network: Callable[..., nn.Module]
) -> None:
    with pytest.raises(ConfigError, match=rf"depth={depth} must be 6n \+ 2.* nearest {nearest}\."):
        meta_network("resnet20", 32, depth=depth)


def test_padding_mode_reaches_small_stem(padding_modes: Callable[..., set[str]]) -> None:
    assert padding_modes("resnet18", 32, stem="small", padding_mode="reflect") == {"reflect"}
