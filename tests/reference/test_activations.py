"""The activations by hand, against torch's."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from cnnbench.reference import activations
from cnnbench.reference.activations import HyperbolicTangent, IdentityMap, Logistic, Rectifier, Step

Operation = Callable[[torch.Tensor], torch.Tensor]

OPERATIONS = {
    "identity": (IdentityMap.apply, lambda x: x.clone()),
    "sigmoid": (Logistic.apply, torch.sigmoid),
    "tanh": (HyperbolicTangent.apply, torch.tanh),
    "relu": (Rectifier.apply, torch.relu),
}
AND_TORCH = [pytest.param(*both, id=name) for name, both in OPERATIONS.items()]
DIFFERENTIABLE = [pytest.param(by_hand, id=name) for name, (by_hand, _) in OPERATIONS.items()]
ALL = [*DIFFERENTIABLE, pytest.param(Step.apply, id="step")]
LAYERS = [nn.Identity(), nn.Sigmoid(), nn.Tanh(), nn.ReLU()]
NUMBERS = (
    st.sampled_from([0.0, -0.0, 1e-300, -1e-300, 1e-9, -1e-9])
    | st.floats(-1000, 1000)
    | st.floats(-4, 4)
)


@pytest.mark.parametrize(("by_hand", "library"), AND_TORCH)
@CASES
@given(numbers=st.lists(NUMBERS, min_size=1, max_size=24))
def test_outputs_and_gradients_are_those_of_torch(
    by_hand: Operation, library: Operation, numbers: list[float]
) -> None:
    inputs = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
    assert_close(by_hand(inputs), library(inputs), **EXACTLY)
    assert_close(compute_gradients(by_hand, inputs), compute_gradients(library, inputs), **EXACTLY)


@pytest.mark.parametrize(("by_hand", "library"), AND_TORCH)
@CASES
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_tensors_of_any_shape(by_hand: Operation, library: Operation, shape: list[int]) -> None:
    inputs = random_tensor(*shape)
    assert_close(by_hand(inputs), library(inputs), **EXACTLY)
    assert_close(compute_gradients(by_hand, inputs), compute_gradients(library, inputs), **EXACTLY)


@CASES
@given(numbers=st.lists(NUMBERS, min_size=1, max_size=24))
def test_the_step_is_that_of_torch(numbers: list[float]) -> None:
    inputs = torch.tensor(numbers, dtype=torch.float64)
    assert_close(Step.apply(inputs), torch.heaviside(inputs, torch.zeros_like(inputs)), **EXACTLY)


def test_no_gradient_gets_through_a_step() -> None:
    assert compute_gradients(Step.apply, random_tensor(3, 4))[0].count_nonzero() == 0


@pytest.mark.parametrize("by_hand", DIFFERENTIABLE)
def test_backward_is_the_derivative_of_forward(by_hand: Operation) -> None:
    inputs = torch.tensor(
        [-3.0, -0.7, -0.1, 0.2, 0.9, 2.5], dtype=torch.float64, requires_grad=True
    )
    assert gradcheck(by_hand, inputs)


@pytest.mark.parametrize(
    ("by_hand", "number", "output", "derivative"),
    [
        (IdentityMap.apply, -7.0, -7.0, 1.0),
        (Logistic.apply, 0.0, 1 / 2, 1 / 4),
        (Logistic.apply, math.log(3), 3 / 4, 3 / 16),
        (Logistic.apply, -math.log(3), 1 / 4, 3 / 16),
        (Logistic.apply, 1000.0, 1.0, 0.0),
        (HyperbolicTangent.apply, 0.0, 0.0, 1.0),
        (HyperbolicTangent.apply, -math.log(2), -3 / 5, 16 / 25),
        (HyperbolicTangent.apply, -1000.0, -1.0, 0.0),
        (Rectifier.apply, 2.0, 2.0, 1.0),
        (Rectifier.apply, 0.0, 0.0, 0.0),
        (Rectifier.apply, -2.0, 0.0, 0.0),
    ],
)
def test_values_known_by_hand(
    by_hand: Operation, number: float, output: float, derivative: float
) -> None:
    inputs = torch.tensor(number, dtype=torch.float64, requires_grad=True)
    outputs = by_hand(inputs)
    outputs.backward()
    assert outputs.item() == pytest.approx(output, abs=1e-15)
    assert inputs.grad is not None
    assert inputs.grad.item() == pytest.approx(derivative, abs=1e-15)


@pytest.mark.parametrize(
    ("by_hand", "library", "numbers"),
    [
        pytest.param(Logistic.apply, torch.sigmoid, [-30.0, -700.0], id="sigmoid far below 0"),
        pytest.param(
            HyperbolicTangent.apply, torch.tanh, [1e-12, -1e-30, 1e-300], id="tanh near 0"
        ),
    ],
)
def test_small_outputs_keep_their_digits(
    by_hand: Operation, library: Operation, numbers: list[float]
) -> None:
    inputs = torch.tensor(numbers, dtype=torch.float64)
    assert_close(by_hand(inputs), library(inputs), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize(("by_hand", "library"), AND_TORCH)
def test_infinite_inputs_give_what_they_give_in_torch(
    by_hand: Operation, library: Operation
) -> None:
    inputs = torch.tensor([math.inf, -math.inf])
    assert_close(by_hand(inputs), library(inputs))


@pytest.mark.parametrize("by_hand", DIFFERENTIABLE)
def test_what_is_not_a_number_stays_so(by_hand: Operation) -> None:
    assert by_hand(torch.tensor(math.nan)).isnan()


@pytest.mark.parametrize("by_hand", ALL)
def test_the_layout_of_memory_is_kept(by_hand: Operation) -> None:
    inputs = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert by_hand(inputs).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("by_hand", ALL)
def test_no_value_is_read(by_hand: Operation) -> None:
    inputs = torch.ones(2, 3, device="meta", requires_grad=True)  # where there is none
    by_hand(inputs).sum().backward()
    assert inputs.grad is not None


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_twin_computes_what_its_layer_does(layer: nn.Module) -> None:
    name, inputs = type(layer).__name__, random_tensor(3, 4)
    twin = type(layer)()
    twin.__class__ = getattr(activations, name)
    assert_close(twin(inputs), layer(inputs), **EXACTLY)
    assert_close(compute_gradients(twin, inputs), compute_gradients(layer, inputs), **EXACTLY)


def test_relu_in_place_changes_what_it_is_given() -> None:
    twin = nn.ReLU(inplace=True)
    twin.__class__ = activations.ReLU

    def with_shortcut(layer: nn.Module) -> Operation:
        def operation(inputs: torch.Tensor) -> torch.Tensor:
            shortcut = 2 * inputs
            return layer(shortcut) + shortcut

        return operation

    by_hand, library = with_shortcut(twin), with_shortcut(nn.ReLU(inplace=True))
    assert_close(by_hand(random_tensor(3, 4)), library(random_tensor(3, 4)), **EXACTLY)
    assert_close(
        compute_gradients(by_hand, random_tensor(3, 4)),
        compute_gradients(library, random_tensor(3, 4)),
        **EXACTLY,
    )
