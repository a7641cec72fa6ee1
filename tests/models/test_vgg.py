"""VGG, block by block, compared with table 1 of its paper and the book."""

from collections.abc import Callable

import pytest
from torch import nn

from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]

DEPTHS = [11, 13, 16, 19]
STAGES = [
    *(f"features.{block}" for block in range(5)),
    *("classifier.0", "classifier.1", "classifier.4", "classifier.7"),
]


def conv_widths(network: nn.Module) -> list[int]:
    return [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize("depth", DEPTHS)
def test_map_shapes_match_paper(depth: int, stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes(STAGES, f"vgg{depth}", 224) == [
        (64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7),
        (25088,), (4096,), (4096,), (10,),
    ]  # fmt: skip


def test_vgg11_convolutions_keep_size_and_poolings_halve_it(
    output_shapes: Callable[..., Shapes],
) -> None:
    assert output_shapes("vgg11", 32) == [
        (64, 32, 32), (64, 16, 16),
        (128, 16, 16), (128, 8, 8),
        (256, 8, 8), (256, 8, 8), (256, 4, 4),
        (512, 4, 4), (512, 4, 4), (512, 2, 2),
        (512, 2, 2), (512, 2, 2), (512, 1, 1),
        (512,), (4096,), (4096,), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "widths"),
    [
        (11, [64, 128, 256, 256, 512, 512, 512, 512]),
        (13, [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]),
        (16, [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]),
        (19, [64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512]),
    ],
)
def test_convolutions_match_columns_of_table_1(
    depth: int, widths: list[int], meta_network: Callable[..., nn.Module]
) -> None:
    assert conv_widths(meta_network(f"vgg{depth}", 32)) == widths


@pytest.mark.parametrize("depth", DEPTHS)
def test_all_kernels_are_3x3(depth: int, meta_network: Callable[..., nn.Module]) -> None:
    layers = meta_network(f"vgg{depth}", 32).modules()
    kernels = {layer.kernel_size for layer in layers if isinstance(layer, nn.Conv2d)}
    assert kernels == {(3, 3)}


CLASSIFIER = ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def test_layers_of_vgg11(layer_names: Callable[..., list[str]]) -> None:
    once, twice = ["Conv2d", "ReLU", "MaxPool2d"], ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"]
    assert layer_names("vgg11", 32) == [*once * 2, *twice * 3, *CLASSIFIER]


def test_batch_normalization_follows_each_convolution(
    layer_names: Callable[..., list[str]],
) -> None:
    conv = ["Conv2d", "BatchNorm2d", "ReLU"]
    once, twice = [*conv, "MaxPool2d"], [*conv, *conv, "MaxPool2d"]
    assert layer_names("vgg11", 32, batch_norm=True) == [*once * 2, *twice * 3, *CLASSIFIER]


def test_dropout_argument_sets_rate(meta_network: Callable[..., nn.Module]) -> None:
    network = meta_network("vgg11", 32, dropout=0.25)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]


@pytest.mark.parametrize(("width", "expected"), [(1.0, 128_806_154), (0.25, 43_093_322)])
def test_number_of_parameters_of_vgg11(
    width: float, expected: int, num_parameters: Callable[..., int]
) -> None:
    assert num_parameters("vgg11", 224, width=width) == expected


@pytest.mark.parametrize(("width", "expected"), [(1.0, 7_547_232_256), (0.25, 512_155_648)])
def test_number_of_multiply_adds_of_vgg11(
    width: float, expected: int, multiply_adds: Callable[..., int]
) -> None:
    assert multiply_adds("vgg11", 224, width=width) == expected


@pytest.mark.parametrize(("depth", "millions"), [(11, 133), (13, 133), (16, 138), (19, 144)])
def test_number_of_parameters_matches_table_2(
    depth: int, millions: int, num_parameters: Callable[..., int]
) -> None:
    assert round(num_parameters(f"vgg{depth}", 224, 3, num_classes=1000) / 1e6) == millions


def test_width_scales_only_convolutions(
    stage_shapes: Callable[..., Shapes], meta_network: Callable[..., nn.Module]
) -> None:
    widths = conv_widths(meta_network("vgg11", 32, width=0.25))
    assert widths == [16, 32, 64, 64, 128, 128, 128, 128]
    linear_layers = ["classifier.1", "classifier.4"]
    assert stage_shapes(linear_layers, "vgg11", 32, width=0.25) == [(4096,), (4096,)]


def test_tiny_width_keeps_one_channel(meta_network: Callable[..., nn.Module]) -> None:
    assert conv_widths(meta_network("vgg11", 32, width=1e-9)) == [1] * 8


@pytest.mark.parametrize("width", [0.0, -1.0, float("inf"), float("nan")])
def test_width_out_of_range_raises(width: float, meta_network: Callable[..., nn.Module]) -> None:
    with pytest.raises(ConfigError, match=rf"width={width} must be finite and above 0"):
        meta_network("vgg11", 32, width=width)


def test_depth_outside_paper_raises(
    meta_network: Callable[..., nn.Module],
) -> None:
    with pytest.raises(ConfigError, match=r"depth=12 .* Allowed: 11, 13, 16, 19\."):
        meta_network("vgg11", 32, depth=12)
