"""Pre-activation ResNet: orders of activation and sizes, compared with its paper."""

from collections.abc import Callable

import pytest
from torch import nn

from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]
Network = Callable[..., nn.Module]
Steps = Callable[[nn.Module], list[str]]

STAGES = ["stem", "stages.0", "stages.1", "stages.2", "classifier"]
CONV, BN, RELU = "Conv2d", "BatchNorm2d", "ReLU"

FIGURE_4 = {
    "original": [CONV, BN, RELU, CONV, BN, "+", RELU],
    "bn_after_addition": [CONV, BN, RELU, CONV, "+", BN, RELU],
    "relu_before_addition": [CONV, BN, RELU, CONV, BN, RELU, "+"],
    "relu_only_preactivation": [RELU, CONV, BN, RELU, CONV, BN, "+"],
    "full_preactivation": [BN, RELU, CONV, BN, RELU, CONV, "+"],
}
FIGURE_4_WITH_THREE_CONVOLUTIONS = {
    "original": [CONV, BN, RELU, CONV, BN, RELU, CONV, BN, "+", RELU],
    "bn_after_addition": [CONV, BN, RELU, CONV, BN, RELU, CONV, "+", BN, RELU],
    "relu_before_addition": [CONV, BN, RELU, CONV, BN, RELU, CONV, BN, RELU, "+"],
    "relu_only_preactivation": [RELU, CONV, BN, RELU, CONV, BN, RELU, CONV, BN, "+"],
    "full_preactivation": [BN, RELU, CONV, BN, RELU, CONV, BN, RELU, CONV, "+"],
}
ORDERS = list(FIGURE_4)


@pytest.mark.parametrize("activation_order", ORDERS)
def test_basic_unit_matches_figure_4(
    activation_order: str, meta_network: Network, steps: Steps
) -> None:
    network = meta_network("preact_resnet110", 8, depth=14, activation_order=activation_order)
    assert steps(network.get_submodule("stages.0.1")) == FIGURE_4[activation_order]


@pytest.mark.parametrize("activation_order", ORDERS)
def test_bottleneck_matches_figure_4_with_three_convolutions(
    activation_order: str, meta_network: Network, steps: Steps
) -> None:
    network = meta_network("preact_resnet164", 8, depth=20, activation_order=activation_order)
    expected = FIGURE_4_WITH_THREE_CONVOLUTIONS[activation_order]
    assert steps(network.get_submodule("stages.0.1")) == expected


@pytest.mark.parametrize(
    ("activation_order", "stem", "end"),
    [
        ("original", [CONV, BN, RELU], []),
        ("bn_after_addition", [CONV, BN, RELU], []),
        ("relu_before_addition", [CONV, BN, RELU], []),
        ("relu_only_preactivation", [CONV, BN], [RELU]),
        ("full_preactivation", [CONV], [BN, RELU]),
    ],
)
def test_stem_and_classifier_match_activation_order(
    activation_order: str, stem: list[str], end: list[str], meta_network: Network, steps: Steps
) -> None:
    network = meta_network("preact_resnet110", 8, depth=8, activation_order=activation_order)
    assert steps(network.get_submodule("stem")) == stem
    layers = [*end, "AdaptiveAvgPool2d", "Flatten", "Linear"]
    assert steps(network.get_submodule("classifier")) == layers


@pytest.mark.parametrize(
    ("activation_order", "norm"),
    [
        ("original", [BN]),
        ("bn_after_addition", []),
        ("relu_before_addition", [BN]),
        ("relu_only_preactivation", [BN]),
        ("full_preactivation", []),
    ],
)
def test_projection_has_normalization_if_branch_ends_with_it(
    activation_order: str, norm: list[str], meta_network: Network, steps: Steps
) -> None:
    network = meta_network("preact_resnet164", 8, depth=11, activation_order=activation_order)
    assert steps(network.get_submodule("stages.1.0.shortcut")) == [CONV, *norm]


@pytest.mark.parametrize("depth", [11, 20])
def test_bottlenecks_project_only_if_channels_grow(depth: int, meta_network: Network) -> None:
    network = meta_network("preact_resnet164", 8, depth=depth)
    keys = [key for key, _ in network.named_parameters() if "shortcut" in key]
    units = {key.rpartition(".shortcut")[0] for key in keys}
    assert units == {"stages.0.0", "stages.1.0", "stages.2.0"}


@pytest.mark.parametrize(
    ("name", "depth", "strides"),
    [("preact_resnet110", 8, [2, 1]), ("preact_resnet164", 11, [2, 1, 1])],
)
def test_first_convolution_of_stage_halves_map(
    name: str, depth: int, strides: list[int], meta_network: Network
) -> None:
    layers = meta_network(name, 8, depth=depth).get_submodule("stages.1.0.residual").modules()
    assert [layer.stride[0] for layer in layers if isinstance(layer, nn.Conv2d)] == strides


@pytest.mark.parametrize(
    ("name", "depth", "kernels"),
    [("preact_resnet110", 8, [3, 3]), ("preact_resnet164", 11, [1, 3, 1])],
)
def test_kernels_of_unit(name: str, depth: int, kernels: list[int], meta_network: Network) -> None:
    layers = meta_network(name, 8, depth=depth).get_submodule("stages.0.0.residual").modules()
    assert [layer.kernel_size[0] for layer in layers if isinstance(layer, nn.Conv2d)] == kernels


def test_map_shapes_with_basic_units(stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes(STAGES, "preact_resnet110", 32) == [
        (16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (10,),
    ]  # fmt: skip


def test_map_shapes_with_bottlenecks(stage_shapes: Callable[..., Shapes]) -> None:
    assert stage_shapes(STAGES, "preact_resnet164", 32) == [
        (16, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize(("depth", "units"), [(110, 18), (164, 18)])
def test_stages_have_n_units(depth: int, units: int, meta_network: Network) -> None:
    stages = meta_network(f"preact_resnet{depth}", 32).get_submodule("stages").children()
    assert [len(list(stage.children())) for stage in stages] == [units] * 3


@pytest.mark.parametrize(("depth", "millions"), [(110, 1.7), (164, 1.7), (1001, 10.2)])
def test_number_of_parameters_without_batch_normalization_matches_paper(
    depth: int, millions: float, meta_network: Network
) -> None:
    layers = meta_network(f"preact_resnet{depth}", 32, 3).modules()
    kinds = (nn.Conv2d, nn.Linear)
    weights = sum(layer.weight.numel() for layer in layers if isinstance(layer, kinds))
    assert round(weights / 1e6, 1) == millions


def test_number_of_parameters_with_batch_normalization(num_parameters: Callable[..., int]) -> None:
    assert num_parameters("preact_resnet1001", 32, 3) == 10_327_706


@pytest.mark.parametrize(
    ("depth", "bottleneck", "nearest"),
    [
        (100, True, "92 and 101"),
        (112, True, "110 and 119"),
        (163, False, "158 and 164"),
        (100, False, "98 and 104"),
        (2, True, "11 and 20"),
        (2, False, "8 and 14"),
        (-50, False, "8 and 14"),
    ],
)
def test_invalid_depth_error_lists_nearest_depths(
    depth: int, bottleneck: bool, nearest: str, meta_network: Network
) -> None:
    form = f"{9 if bottleneck else 6}n \\+ 2 with bottleneck={str(bottleneck).lower()}"
    message = rf"depth={depth} must be {form}; the nearest are {nearest}\."
    with pytest.raises(ConfigError, match=message):
        meta_network("preact_resnet164", 32, depth=depth, bottleneck=bottleneck)
