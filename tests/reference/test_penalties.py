"""The penalties of the reference implementation, compared with autograd and with weight decay."""

import copy
import math
from collections.abc import Callable, Iterator
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

from cnnbench.reference.penalties import (
    L1Penalty,
    L2Penalty,
    LinfPenalty,
    l1_penalty,
    l2_penalty,
    linf_penalty,
)
from cnnbench.training.losses import make_losses

Penalty = Callable[[torch.Tensor], torch.Tensor]

WITH_FORMULA = [
    pytest.param(L2Penalty.apply, lambda w: 0.5 * (w**2).sum(), id="L2"),
    pytest.param(L1Penalty.apply, lambda w: w.abs().sum(), id="L1"),
    pytest.param(LinfPenalty.apply, lambda w: w.abs().amax(), id="Linf"),
    pytest.param(LinfPenalty.apply, lambda w: torch.linalg.vector_norm(w, math.inf), id="norm"),
]


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)
    ).double()


@pytest.fixture(autouse=True)
def _isolated_generator() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize(("reference", "formula"), WITH_FORMULA)
@CASES
@given(numbers=st.lists(st.just(0.0) | st.floats(-10, 10), min_size=1, max_size=24))
def test_value_and_gradient_match_autograd(
    reference: Penalty, formula: Penalty, numbers: list[float]
) -> None:
    weights = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
    assert_close(reference(weights), formula(weights), **EXACTLY)
    assert_close(
        compute_gradients(reference, weights), compute_gradients(formula, weights), **EXACTLY
    )


@pytest.mark.parametrize("reference", [L2Penalty.apply, L1Penalty.apply, LinfPenalty.apply])
def test_backward_passes_gradcheck(reference: Penalty) -> None:
    assert gradcheck(reference, random_tensor(3, 4))


@pytest.mark.parametrize(
    ("penalty", "value", "gradient"),
    [
        (l2_penalty, 7.0, [[1.0, -2.0], [3.0, 0.0]]),
        (l1_penalty, 6.0, [[1.0, -1.0], [1.0, 0.0]]),
        (linf_penalty, 3.0, [[0.0, 0.0], [1.0, 0.0]]),
    ],
)
def test_known_values_and_gradients(
    penalty: Callable[[nn.Module], torch.Tensor], value: float, gradient: object
) -> None:
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    penalty(layer).backward()
    assert penalty(layer).item() == value
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == gradient
    assert layer.bias.grad is None


def test_linf_shares_its_gradient_among_the_largest_weights() -> None:
    weights = torch.tensor([[2.0, -2.0], [1.0, 2.0], [0.0, -2.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(LinfPenalty.apply(weights), weights, torch.tensor(8.0))
    assert gradient.tolist() == [[2.0, -2.0], [0.0, 2.0], [0.0, -2.0]]


def test_linf_of_zeros_has_gradient_zero() -> None:
    weights = torch.zeros(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(LinfPenalty.apply(weights), weights)
    assert not gradient.any()


@CASES
@given(
    numbers=st.lists(st.integers(-3, 3), min_size=4, max_size=4),
    others=st.lists(st.integers(-3, 3), min_size=4, max_size=4),
)
def test_gradient_of_linf_is_a_subgradient(numbers: list[int], others: list[int]) -> None:
    weights = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
    points = torch.tensor(others, dtype=torch.float64)
    value = LinfPenalty.apply(weights)
    (gradient,) = torch.autograd.grad(value, weights)
    # The norm lies above each of its tangents.
    tangent = value + (gradient * (points - weights)).sum()
    assert LinfPenalty.apply(points) >= tangent - 1e-12


def test_linf_of_a_network_is_the_norm_of_all_its_weights_at_once() -> None:
    model = make_network()
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    norm = torch.cat([weight.flatten() for weight in weights]).abs().max()
    penalty = linf_penalty(model)
    assert penalty.item() == norm.item()
    gradients = torch.autograd.grad(penalty, weights)
    expected = torch.autograd.grad(norm, weights)
    assert_close(gradients, expected, **EXACTLY)
    assert sum(int(gradient.count_nonzero()) for gradient in gradients) == 1


def test_l1_matches_the_penalty_of_training() -> None:
    model = make_network()
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    losses = make_losses(SimpleNamespace(loss="cross_entropy", label_smoothing=0.0))
    in_training = losses.l1_penalty(model)
    reference = l1_penalty(model)
    assert_close(reference, in_training, **EXACTLY)
    expected = torch.autograd.grad(in_training, weights)
    assert_close(torch.autograd.grad(reference, weights), expected, **EXACTLY)


@pytest.mark.parametrize("kind", [SGD, Adagrad, RMSprop, Adam])
def test_l2_in_the_loss_equals_weight_decay_in_the_optimizer(kind: type[Optimizer]) -> None:
    penalized = nn.Linear(3, 2, bias=False).double()
    decayed = copy.deepcopy(penalized)
    optimizer = kind(penalized.parameters(), lr=0.1)
    decaying_optimizer = kind(decayed.parameters(), lr=0.1, weight_decay=0.01)
    for step in range(3):
        inputs = random_tensor(4, 3) + step
        penalized.zero_grad()
        decayed.zero_grad()
        (penalized(inputs).square().mean() + 0.01 * l2_penalty(penalized)).backward()
        decayed(inputs).square().mean().backward()
        optimizer.step()
        decaying_optimizer.step()
    assert_close(penalized.weight, decayed.weight, **EXACTLY)
