"""The units and shortcuts of pre-activation ResNet, compared with functional code."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench import models

Network = Callable[..., nn.Module]
Randomize = Callable[[nn.Module], None]

SHORTCUTS = [
    *("identity", "constant_scaling", "exclusive_gating", "shortcut_only_gating"),
    *("conv1x1", "dropout"),
]
ORDERS = [
    *("original", "bn_after_addition", "relu_before_addition"),
    *("relu_only_preactivation", "full_preactivation"),
]


def build(units: int, bottleneck: bool = False, **arguments: object) -> nn.Module:
    """Build a network with `units` units in each stage."""
    depth = (9 if bottleneck else 6) * units + 2
    torch.manual_seed(0)
    return models.build(
        "preact_resnet164", image_size=8, depth=depth, bottleneck=bottleneck, **arguments
    )


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("activation_order", ORDERS)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_all_parameters_get_gradients_with_each_shortcut_and_order(
    shortcut: str, activation_order: str, bottleneck: bool
) -> None:
    network = build(1, bottleneck, shortcut=shortcut, activation_order=activation_order)
    functional.cross_entropy(network(torch.randn(2, 1, 8, 8)), torch.arange(2)).backward()
    failed = []
    for key, parameter in network.named_parameters():
        if parameter.grad is None or not parameter.grad.isfinite().all():
            failed.append(key)
    assert failed == []


ACTIVATIONS_AFTER_ADDITION: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "original": torch.relu,
    "full_preactivation": lambda maps: maps,
}


@pytest.fixture(params=list(ACTIVATIONS_AFTER_ADDITION))
def unit_of(request: pytest.FixtureRequest, randomize: Randomize) -> Callable[..., nn.Module]:
    """Return a function for a unit with a shortcut, in the middle of a stage, in eval mode.

    The order of activation is the original one or full pre-activation.
    """

    def make(shortcut: str) -> nn.Module:
        network = build(2, shortcut=shortcut, activation_order=request.param).eval()
        randomize(network)
        unit = network.get_submodule("stages.0.1")
        unit.end = ACTIVATIONS_AFTER_ADDITION[request.param]
        return unit

    return make


@pytest.fixture
def maps() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 16, 5, 5)


def branch(unit: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """Return F(x) of the paper."""
    return unit.get_submodule("residual")(unit.get_submodule("activation")(maps))


def gate(unit: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """Return g(x) of the paper, the sigmoid of a 1x1 convolution."""
    weight = unit.get_parameter("gate.0.weight")[:, :, 0, 0]
    bias = unit.get_parameter("gate.0.bias").view(1, -1, 1, 1)
    return torch.sigmoid(torch.einsum("oi,nihw->nohw", weight, maps) + bias)


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
    expected = unit.end((1 - gate(unit, maps)) * maps + branch(unit, maps))
    torch.testing.assert_close(unit(maps), expected)


def test_dropout_shortcut_is_identity_in_eval(unit_of: Network, maps: torch.Tensor) -> None:
    unit = unit_of("dropout")
    torch.testing.assert_close(unit(maps), unit.end(maps + branch(unit, maps)))


def test_conv1x1_shortcut_projects(randomize: Randomize, maps: torch.Tensor) -> None:
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
    parameters = build(2, shortcut=shortcut).named_parameters()
    biases = [parameter for key, parameter in parameters if key.endswith("gate.0.bias")]
    assert [bias.unique().tolist() for bias in biases] == [[-6.0]] * 6


@pytest.mark.parametrize("shortcut", ["identity", "constant_scaling", "conv1x1", "dropout"])
def test_other_shortcuts_have_no_gates(shortcut: str) -> None:
    assert [key for key, _ in build(1, shortcut=shortcut).named_parameters() if "gate" in key] == []


def without_branch(key: str, bottleneck: bool, shortcut: str, randomize: Randomize) -> nn.Module:
    """Return a unit with random weights, but zeros in the last convolution of the branch."""
    network = build(2, bottleneck, shortcut=shortcut).eval()
    randomize(network)
    unit = network.get_submodule(key)
    layers = unit.get_submodule("residual").modules()
    last = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    return unit


def activated(unit: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """Return batch normalization and ReLU of the maps, by their formulas."""
    norm = unit.get_submodule("activation.0")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var, weight, bias = (
        statistic.view(1, -1, 1, 1)
        for statistic in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return torch.relu((maps - mean) / (var + norm.eps).sqrt() * weight + bias)


def test_first_unit_activates_before_split(randomize: Randomize, maps: torch.Tensor) -> None:
    unit = without_branch("stages.0.0", False, "identity", randomize)
    torch.testing.assert_close(unit(maps), activated(unit, maps))


def test_other_units_activate_after_split(randomize: Randomize, maps: torch.Tensor) -> None:
    unit = without_branch("stages.0.1", False, "identity", randomize)
    torch.testing.assert_close(unit(maps), maps, rtol=0, atol=0)


def test_shortcut_of_growing_basic_unit_subsamples_and_pads_with_zeros(
    randomize: Randomize, maps: torch.Tensor
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
    randomize: Randomize,
) -> None:
    unit = without_branch(key, bottleneck, shortcut, randomize)
    maps = torch.randn(2, channels, 5, 5)
    weight = unit.get_parameter("shortcut.0.weight")
    expected = functional.conv2d(activated(unit, maps), weight, stride=stride)
    torch.testing.assert_close(unit(maps), expected, rtol=1e-4, atol=1e-4)
