"""The first weights: their spread by method, and what is left as PyTorch made it."""

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
    """A convolution of fan-in 72 and fan-out 144, a normalisation, a linear layer of fans 200 and 300."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Linear(200, 300))


def clones(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.mark.parametrize(("layer", "fans"), [(0, 72 + 144), (2, 500)], ids=["Conv2d", "Linear"])
def test_xavier_fills_its_bounds(layer: int, fans: int, network: nn.Sequential) -> None:
    initialize(network, "xavier_uniform")
    assert network[layer].weight.abs().max().item() == pytest.approx(math.sqrt(6 / fans), rel=0.02)


@pytest.mark.parametrize(("layer", "fan_in"), [(0, 72), (2, 200)], ids=["Conv2d", "Linear"])
def test_kaiming_has_the_deviation_of_its_fan_in(
    layer: int, fan_in: int, network: nn.Sequential
) -> None:
    initialize(network, "kaiming_normal")
    assert network[layer].weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)


@pytest.mark.parametrize("layer", [0, 2], ids=["Conv2d", "Linear"])
def test_normal_has_a_deviation_of_a_hundredth(layer: int, network: nn.Sequential) -> None:
    initialize(network, "normal")
    assert network[layer].weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_default_leaves_everything_as_it_was(network: nn.Sequential) -> None:
    before = clones(network)
    initialize(network, "default")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_only_the_weights_of_convolutions_and_linear_layers_change(
    method: str, network: nn.Sequential
) -> None:
    before = clones(network)
    initialize(network, method)
    changed = [
        key for key, value in network.state_dict().items() if not torch.equal(value, before[key])
    ]
    assert changed == ["0.weight", "2.weight"]
