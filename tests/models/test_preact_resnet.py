"""Pre-activation ResNet: its units against the figures of its paper, its sizes against the tables."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]
Network = Callable[..., nn.Module]
Steps = Callable[[nn.Module], list[str]]

SHORTCUTS = [
    "identity",
    "constant_scaling",
    "exclusive_gating",
    "shortcut_only_gating",
    "conv1x1",
    "dropout",
]
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
SMALLEST = [(8, False), (11, True)]  # one unit in each stage


def build(units: int, bottleneck: bool = False, **arguments: object) -> nn.Module:
    """A network of `units` units in each stage."""
    depth = (9 if bottleneck else 6) * units + 2
    torch.manual_seed(0)
    return models.build(
        "preact_resnet164", image_size=8, depth=depth, bottleneck=bottleneck, **arguments
    )


@pytest.mark.parametrize(("depth", "bottleneck"), SMALLEST)
@pytest.mark.parametrize("activation_order", ORDERS)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_all_parameters_get_gradients_with_each_shortcut_and_order(
    shortcut: str, activation_order: str, depth: int, bottleneck: bool
) -> None:
    torch.manual_seed(0)
    network = models.build(
        "preact_resnet164", image_size=8, depth=depth, bottleneck=bottleneck,
        shortcut=shortcut, activation_order=activation_order,
    )  # fmt: skip
    functional.cross_entropy(network(torch.randn(2, 1, 8, 8)), torch.arange(2)).backward()
    unused = [
        key
        for key, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert unused == []


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
    assert (
        steps(network.get_submodule("stages.0.1"))
        == FIGURE_4_WITH_THREE_CONVOLUTIONS[activation_order]
    )


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
    assert steps(network.get_submodule("classifier")) == [
        *end,
        "AdaptiveAvgPool2d",
        "Flatten",
        "Linear",
    ]


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


ACTIVATE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "original": torch.relu,
    "full_preactivation": lambda maps: maps,
}  # what follows the addition


@pytest.fixture(params=list(ACTIVATE))
def unit_of(
    request: pytest.FixtureRequest, randomize: Callable[[nn.Module], None]
) -> Callable[..., nn.Module]:
    """Gives a unit in the middle of a stage, of the original order and of full pre-activation, in eval mode."""

    def make(shortcut: str) -> nn.Module:
        network = build(2, shortcut=shortcut, activation_order=request.param).eval()
        randomize(network)
        unit = network.get_submodule("stages.0.1")
        unit.end = ACTIVATE[request.param]
        return unit

    return make


@pytest.fixture
def maps() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 16, 5, 5)


def branch(unit: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """F(x) of the paper."""
    return unit.get_submodule("residual")(unit.get_submodule("activation")(maps))


def gate(unit: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """g(x) of the paper: the sigmoid of a 1x1 convolution."""
    weight, bias = (
        unit.get_parameter("gate.0.weight")[:, :, 0, 0],
        unit.get_parameter("gate.0.bias"),
    )
    return torch.sigmoid(torch.einsum("oi,nihw->nohw", weight, maps) + bias.view(1, -1, 1, 1))


def test_identity_shortcut_adds_input(unit_of: Network, maps: torch.Tensor) -> None:
    unit = unit_of("identity")
    torch.testing.assert_close(unit(maps), unit.end(maps + branch(unit, maps)))


def test_constant_scaling_halves_shortcut_and_branch(unit_of: Network, maps: torch.Tensor) -> None:
    unit = unit_of("constant_scaling")
    torch.testing.assert_close(unit(maps), unit.end(0.5 * maps + 0.5 * branch(unit, maps)))


def test_exclusive_gating_weighs_shortcut_and_branch(unit_of: Network, maps: torch.Tensor) -> None:
    unit = unit_of("exclusive_gating")
    g = gate(unit, maps)
    torch.testing.assert_close(unit(maps), unit.end((1 - g) * maps + g * branch(unit, maps)))


def test_shortcut_only_gating_leaves_branch_unchanged(unit_of: Network, maps: torch.Tensor) -> None:
    unit = unit_of("shortcut_only_gating")
    torch.testing.assert_close(
        unit(maps), unit.end((1 - gate(unit, maps)) * maps + branch(unit, maps))
    )


def test_dropout_shortcut_is_identity_in_eval(unit_of: Network, maps: torch.Tensor) -> None:
    unit = unit_of("dropout")
    torch.testing.assert_close(unit(maps), unit.end(maps + branch(unit, maps)))


def test_conv1x1_shortcut_projects(
    randomize: Callable[[nn.Module], None], maps: torch.Tensor
) -> None:
    network = build(2, shortcut="conv1x1", activation_order="original").eval()
    randomize(network)
    unit = network.get_submodule("stages.0.1")
    conv, norm = unit.get_submodule("shortcut.0"), unit.get_submodule("shortcut.1")
    projected = norm(functional.conv2d(maps, conv.get_parameter("weight")))
    torch.testing.assert_close(unit(maps), torch.relu(projected + branch(unit, maps)))


def test_dropout_shortcut_drops_half_of_shortcut_only(
    maps: torch.Tensor,
) -> None:
    unit = build(2, shortcut="dropout").get_submodule("stages.0.1").train()
    residual = branch(unit, maps)
    shortcut = unit(maps) - residual
    kept = shortcut.abs() > 1e-4
    torch.testing.assert_close(shortcut, torch.where(kept, 2 * maps, 0.0), rtol=1e-4, atol=1e-4)
    assert 0.4 < kept.float().mean() < 0.6


@pytest.mark.parametrize("shortcut", ["exclusive_gating", "shortcut_only_gating"])
def test_gates_start_nearly_closed(shortcut: str) -> None:
    gates = [
        p
        for key, p in build(2, shortcut=shortcut).named_parameters()
        if key.endswith("gate.0.bias")
    ]
    assert [gate.unique().tolist() for gate in gates] == [[-6.0]] * 6


@pytest.mark.parametrize("shortcut", ["identity", "constant_scaling", "conv1x1", "dropout"])
def test_other_shortcuts_have_no_gates(shortcut: str) -> None:
    assert [key for key, _ in build(1, shortcut=shortcut).named_parameters() if "gate" in key] == []


def without_branch(
    key: str, bottleneck: bool, shortcut: str, randomize: Callable[[nn.Module], None]
) -> nn.Module:
    """The unit of that name with weights at random but for the last convolution's, which are zero."""
    network = build(2, bottleneck, shortcut=shortcut).eval()
    randomize(network)
    unit = network.get_submodule(key)
    last = [
        layer for layer in unit.get_submodule("residual").modules() if isinstance(layer, nn.Conv2d)
    ][-1]
    nn.init.zeros_(last.weight)
    return unit


def activated(unit: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """Batch normalisation and ReLU, by hand."""
    norm = unit.get_submodule("activation.0")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var, weight, bias = (
        statistic.view(1, -1, 1, 1)
        for statistic in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return torch.relu((maps - mean) / (var + norm.eps).sqrt() * weight + bias)


def test_first_unit_activates_before_split(
    randomize: Callable[[nn.Module], None], maps: torch.Tensor
) -> None:
    unit = without_branch("stages.0.0", False, "identity", randomize)
    torch.testing.assert_close(unit(maps), activated(unit, maps))


def test_other_units_activate_after_split(
    randomize: Callable[[nn.Module], None], maps: torch.Tensor
) -> None:
    unit = without_branch("stages.0.1", False, "identity", randomize)
    torch.testing.assert_close(unit(maps), maps, rtol=0, atol=0)


def test_shortcut_of_growing_basic_unit_subsamples_and_pads_with_zeros(
    randomize: Callable[[nn.Module], None], maps: torch.Tensor
) -> None:
    unit = without_branch("stages.1.0", False, "identity", randomize)
    expected = functional.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, 0, 16))
    torch.testing.assert_close(unit(maps), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("key", "bottleneck", "shortcut", "channels", "stride"),
    [
        ("stages.0.0", True, "identity", 16, 1),
        ("stages.1.0", True, "identity", 64, 2),
        ("stages.0.0", False, "conv1x1", 16, 1),
        ("stages.0.1", False, "conv1x1", 16, 1),
        ("stages.1.0", False, "conv1x1", 16, 2),
        ("stages.0.1", True, "conv1x1", 64, 1),
    ],
)
def test_projection_reads_activated_maps(
    key: str,
    bottleneck: bool,
    shortcut: str,
    channels: int,
    stride: int,
    randomize: Callable[[nn.Module], None],
) -> None:
    unit = without_branch(key, bottleneck, shortcut, randomize)
    maps = torch.randn(2, channels, 5, 5)
    weight = unit.get_parameter("shortcut.0.weight")
    expected = functional.conv2d(activated(unit, maps), weight, stride=stride)
    torch.testing.assert_close(unit(maps), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("units", [1, 2])
def test_bottlenecks_project_only_if_channels_grow(units: int) -> None:
    keys = {
        key.rpartition(".shortcut")[0]
        for key, _ in build(units, True).named_parameters()
        if "shortcut" in key
    }
    assert keys == {"stages.0.0", "stages.1.0", "stages.2.0"}


@pytest.mark.parametrize("bottleneck", [False, True])
def test_first_convolution_of_stage_halves_map(bottleneck: bool) -> None:
    residual = build(1, bottleneck).get_submodule("stages.1.0.residual")
    strides = [layer.stride[0] for layer in residual.modules() if isinstance(layer, nn.Conv2d)]
    assert strides == ([2, 1, 1] if bottleneck else [2, 1])


@pytest.mark.parametrize(("bottleneck", "kernels"), [(False, [3, 3]), (True, [1, 3, 1])])
def test_kernels_of_unit(bottleneck: bool, kernels: list[int]) -> None:
    residual = build(1, bottleneck).get_submodule("stages.0.0.residual")
    assert [
        layer.kernel_size[0] for layer in residual.modules() if isinstance(layer, nn.Conv2d)
    ] == kernels


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
    network = meta_network(f"preact_resnet{depth}", 32)
    assert [
        len(list(network.get_submodule(f"stages.{stage}").children())) for stage in range(3)
    ] == [units] * 3


@pytest.mark.parametrize(("depth", "millions"), [(110, 1.7), (164, 1.7), (1001, 10.2)])
def test_number_of_parameters_without_batch_normalization_matches_paper(
    depth: int, millions: float, meta_network: Network
) -> None:
    layers = meta_network(f"preact_resnet{depth}", 32, 3).modules()
    weights = [
        layer.weight.numel() for layer in layers if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    assert round(sum(weights) / 1e6, 1) == millions


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
    with pytest.raises(
        ConfigError, match=rf"depth={depth} must be {form}; the nearest are {nearest}\."
    ):
        meta_network("preact_resnet164", 32, depth=depth, bottleneck=bottleneck)
