"""The penalties by hand, against what autograd makes of their formulas, and against weight decay."""

import copy
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.optim import SGD, Adagrad, Adam, Optimizer, RMSprop
from torch.testing import assert_close

from cnnbench.reference.penalties import L1Penalty, L2Penalty, l1_penalty, l2_penalty
from cnnbench.training.losses import make_losses

Penalty = Callable[[torch.Tensor], torch.Tensor]

AND_AUTOGRAD = [
    pytest.param(L2Penalty.apply, lambda w: 0.5 * (w**2).sum(), id="L2"),
    pytest.param(L1Penalty.apply, lambda w: w.abs().sum(), id="L1"),
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)
    ).double()


@pytest.fixture(autouse=True)
def _generator_as_it_was() -> object:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize(("by_hand", "formula"), AND_AUTOGRAD)
@CASES
@given(numbers=st.lists(st.just(0.0) | st.floats(-10, 10), min_size=1, max_size=24))
def test_value_and_gradient_are_those_of_autograd(
    by_hand: Penalty, formula: Penalty, numbers: list[float]
) -> None:
    weights = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
    assert_close(by_hand(weights), formula(weights), **EXACTLY)
    assert_close(
        compute_gradients(by_hand, weights), compute_gradients(formula, weights), **EXACTLY
    )


@pytest.mark.parametrize("by_hand", [L2Penalty.apply, L1Penalty.apply])
def test_backward_is_the_derivative_of_forward(by_hand: Penalty) -> None:
    assert gradcheck(by_hand, random_tensor(3, 4))


@pytest.mark.parametrize(
    ("penalty", "value", "gradient"),
    [(l2_penalty, 7.0, [[1.0, -2.0], [3.0, 0.0]]), (l1_penalty, 6.0, [[1.0, -1.0], [1.0, 0.0]])],
)
def test_values_known_by_hand(
    penalty: Callable[[nn.Module], torch.Tensor], value: float, gradient: object
) -> None:
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    penalty(layer).backward()
    assert penalty(layer).item() == value
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == gradient
    assert layer.bias.grad is None


def test_l1_is_the_penalty_of_training() -> None:
    model = network()
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    in_training = make_losses(
        SimpleNamespace(loss="cross_entropy", label_smoothing=0.0)
    ).l1_penalty(model)
    by_hand = l1_penalty(model)
    assert_close(by_hand, in_training, **EXACTLY)
    assert_close(
        torch.autograd.grad(by_hand, weights), torch.autograd.grad(in_training, weights), **EXACTLY
    )


@pytest.mark.parametrize("kind", [SGD, Adagrad, RMSprop, Adam])
def test_l2_in_the_loss_is_weight_decay_in_the_optimizer(kind: type[Optimizer]) -> None:
    penalised = nn.Linear(3, 2, bias=False).double()
    decayed = copy.deepcopy(penalised)
    ours, theirs = (
        kind(penalised.parameters(), lr=0.1),
        kind(decayed.parameters(), lr=0.1, weight_decay=0.01),
    )
    for step in range(3):
        inputs = random_tensor(4, 3) + step
        penalised.zero_grad()
        decayed.zero_grad()
        (penalised(inputs).square().mean() + 0.01 * l2_penalty(penalised)).backward()
        decayed(inputs).square().mean().backward()
        ours.step()
        theirs.step()
    assert_close(penalised.weight, decayed.weight, **EXACTLY)
