"""The norms of gradients by the weights, layer by layer."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench.analysis.gradient_norms import measure_gradient_norms


def measure(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    def loss(part: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(network(part), targets)

    return measure_gradient_norms(network, loss, inputs, labels)


def test_norms_are_those_of_one_backward_pass_over_all_images() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 10)
    ).eval()
    inputs, labels = torch.randn(19, 1, 6, 6), torch.randint(0, 10, (19,))  # batches of 8, 8 and 3
    norms = measure(network, inputs, labels)
    functional.cross_entropy(network(inputs), labels).backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    assert list(norms) == ["0.weight", "4.weight"]
    for name, norm in norms.items():
        assert norm == pytest.approx(gradients[name].norm().item(), rel=1e-5)


def test_norm_of_a_linear_layer_matches_the_formula() -> None:
    """The gradient of cross-entropy by W is (softmax - one-hot) x^T: here (1/2, -1/2) x^T."""
    network = nn.Linear(3, 2)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    norms = measure(network, torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([1]))
    assert norms == pytest.approx({"weight": 3 / 2**0.5})


def test_gradient_vanishes_through_sigmoids_and_not_through_relus() -> None:
    ratios = {}
    for activation in (nn.Sigmoid, nn.ReLU):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for _ in range(8):
            layer = nn.Linear(64, 64)
            nn.init.kaiming_normal_(layer.weight)
            layers += [layer, activation()]
        network = nn.Sequential(*layers, nn.Linear(64, 10))
        norms = [*measure(network, torch.randn(16, 64), torch.arange(16) % 10).values()]
        ratios[activation] = norms[0] / norms[-1]
    assert ratios[nn.Sigmoid] < 1e-2 < 0.1 < ratios[nn.ReLU]


def test_weights_and_their_gradients_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    network[0].requires_grad_(False)  # as in an average of weights
    network[1].weight.grad = torch.ones(2, 4)
    before = copy.deepcopy(network.state_dict())
    norms = measure(network, torch.randn(5, 4), torch.zeros(5, dtype=torch.int64))
    assert len(norms) == 2
    assert all(before[name].equal(value) for name, value in network.state_dict().items())
    assert [parameter.requires_grad for parameter in network.parameters()] == [
        *[False, False],
        *[True, True],
    ]
    assert network[0].weight.grad is None
    assert network[1].weight.grad.equal(torch.ones(2, 4))


def test_weights_without_influence_are_left_out() -> None:
    network = nn.Linear(4, 2)
    network.unused = nn.Linear(3, 3)
    assert list(measure(network, torch.ones(2, 4), torch.tensor([0, 1]))) == ["weight"]


def test_network_without_weights_has_no_norms() -> None:
    assert measure(nn.BatchNorm1d(2).eval(), torch.ones(3, 2), torch.tensor([0, 1, 0])) == {}
