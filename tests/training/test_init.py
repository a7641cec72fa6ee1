"""Initial weights: their distribution by method, and the parameters that stay as in PyTorch."""

import copy
import math

import pytest
import torch
from torch import nn

from cnnbench.config import TrainConfig
from cnnbench.config.fields import allowed_by, fields_of
from cnnbench.training.init import initialize

METHODS = [
    method for method in allowed_by(fields_of(TrainConfig)["init"]).choices if method != "default"
]


@pytest.fixture
def network() -> nn.Sequential:
    """Return a convolution (fans 72, 144), batch norm and a linear layer (fans 200, 300)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Linear(200, 300))


@pytest.mark.parametrize(("layer", "fans"), [(0, 72 + 144), (2, 500)], ids=["Conv2d", "Linear"])
def test_xavier_uniform_fills_its_bounds(layer: int, fans: int, network: nn.Sequential) -> None:
    initialize(network, "xavier_uniform")
    assert network[layer].weight.abs().max().item() == pytest.approx(math.sqrt(6 / fans), rel=0.02)


@pytest.mark.parametrize(("layer", "fan_in"), [(0, 72), (2, 200)], ids=["Conv2d", "Linear"])
def test_kaiming_normal_has_the_std_of_its_fan_in(
    layer: int, fan_in: int, network: nn.Sequential
) -> None:
    initialize(network, "kaiming_normal")
    assert network[layer].weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)


@pytest.mark.parametrize("layer", [0, 2], ids=["Conv2d", "Linear"])
def test_normal_has_a_std_of_0_01(layer: int, network: nn.Sequential) -> None:
    initialize(network, "normal")
    assert network[layer].weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_default_changes_nothing(network: nn.Sequential) -> None:
    before = copy.deepcopy(network.state_dict())
    initialize(network, "default")
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_only_weights_of_convolutions_and_linear_layers_change(
    method: str, network: nn.Sequential
) -> None:
    before = copy.deepcopy(network.state_dict())
    initialize(network, method)
    after = network.state_dict()
    changed = [key for key in after if not torch.equal(after[key], before[key])]
    assert changed == ["0.weight", "2.weight"]
