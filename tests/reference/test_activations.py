"""The activations of the reference implementation, compared with PyTorch's."""

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
WITH_TORCH = [pytest.param(*operations, id=name) for name, operations in OPERATIONS.items()]
DIFFERENTIABLE = [pytest.param(reference, id=name) for name, (reference, _) in OPERATIONS.items()]
ALL = [*DIFFERENTIABLE, pytest.param(Step.apply, id="step")]
LAYERS = [nn.Identity(), nn.Sigmoid(), nn.Tanh(), nn.ReLU()]
NUMBERS = (
    st.sampled_from([0.0, -0.0, 1e-300, -1e-300, 1e-9, -1e-9])
    | st.floats(-1000, 1000)
    | st.floats(-4, 4)
)


@pytest.mark.parametrize(("reference", "library"), WITH_TORCH)
@CASES
@given(numbers=st.lists(NUMBERS, min_size=1, max_size=24))
def test_outputs_and_gradients_match_torch(
    reference: Operation, library: Operation, numbers: list[float]
) -> None:
    inputs = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
    assert_close(reference(inputs), library(inputs), **EXACTLY)
    assert_close(
        compute_gradients(reference, inputs), compute_gradients(library, inputs), **EXACTLY
    )


@pytest.mark.parametrize(("reference", "library"), WITH_TORCH)
@CASES
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_tensors_of_any_shape_match_torch(
    reference: Operation, library: Operation, shape: list[int]
) -> None:
    inputs = random_tensor(*shape)
    assert_close(reference(inputs), library(inputs), **EXACTLY)
    assert_close(
        compute_gradients(reference, inputs), compute_gradients(library, inputs), **EXACTLY
    )


@CASES
@given(numbers=st.lists(NUMBERS, min_size=1, max_size=24))
def test_step_matches_heaviside(numbers: list[float]) -> None:
    inputs = torch.tensor(numbers, dtype=torch.float64)
    assert_close(Step.apply(inputs), torch.heaviside(inputs, torch.zeros_like(inputs)), **EXACTLY)


def test_gradient_of_step_is_zero() -> None:
    assert compute_gradients(Step.apply, random_tensor(3, 4))[0].count_nonzero() == 0


@pytest.mark.parametrize("reference", DIFFERENTIABLE)
def test_backward_passes_gradcheck(reference: Operation) -> None:
    inputs = torch.tensor(
        [-3.0, -0.7, -0.1, 0.2, 0.9, 2.5], dtype=torch.float64, requires_grad=True
    )
    assert gradcheck(reference, inputs)


@pytest.mark.parametrize(
    ("reference", "number", "output", "derivative"),
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
def test_known_outputs_and_derivatives(
    reference: Operation, number: float, output: float, derivative: float
) -> None:
    inputs = torch.tensor(number, dtype=torch.float64, requires_grad=True)
    outputs = reference(inputs)
    outputs.backward()
    assert outputs.item() == pytest.approx(output, abs=1e-15)
    assert inputs.grad is not None
    assert inputs.grad.item() == pytest.approx(derivative, abs=1e-15)


@pytest.mark.parametrize(
    ("reference", "library", "numbers"),
    [
        pytest.param(Logistic.apply, torch.sigmoid, [-30.0, -700.0], id="sigmoid far below 0"),
        pytest.param(
            HyperbolicTangent.apply, torch.tanh, [1e-12, -1e-30, 1e-300], id="tanh near 0"
        ),
    ],
)
def test_small_outputs_keep_relative_precision(
    reference: Operation, library: Operation, numbers: list[float]
) -> None:
    inputs = torch.tensor(numbers, dtype=torch.float64)
    assert_close(reference(inputs), library(inputs), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize(("reference", "library"), WITH_TORCH)
def test_infinite_inputs_match_torch(reference: Operation, library: Operation) -> None:
    inputs = torch.tensor([math.inf, -math.inf])
    assert_close(reference(inputs), library(inputs))


@pytest.mark.parametrize("reference", DIFFERENTIABLE)
def test_nan_stays_nan(reference: Operation) -> None:
    assert reference(torch.tensor(math.nan)).isnan()


@pytest.mark.parametrize("reference", ALL)
def test_memory_format_is_kept(reference: Operation) -> None:
    inputs = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert reference(inputs).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("reference", ALL)
def test_forward_and_backward_read_no_value(reference: Operation) -> None:
    inputs = torch.ones(2, 3, device="meta", requires_grad=True)  # A meta tensor has no values.
    reference(inputs).sum().backward()
    assert inputs.grad is not None


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_twin_layer_matches_torch_layer(layer: nn.Module) -> None:
    name, inputs = type(layer).__name__, random_tensor(3, 4)
    twin = type(layer)()
    twin.__class__ = getattr(activations, name)
    assert_close(twin(inputs), layer(inputs), **EXACTLY)
    assert_close(compute_gradients(twin, inputs), compute_gradients(layer, inputs), **EXACTLY)


def test_inplace_relu_overwrites_its_inputs() -> None:
    twin = nn.ReLU(inplace=True)
    twin.__class__ = activations.ReLU

    def with_shortcut(layer: nn.Module) -> Operation:
        def operation(inputs: torch.Tensor) -> torch.Tensor:
            shortcut = 2 * inputs
            return layer(shortcut) + shortcut

        return operation

    reference, library = with_shortcut(twin), with_shortcut(nn.ReLU(inplace=True))
    assert_close(reference(random_tensor(3, 4)), library(random_tensor(3, 4)), **EXACTLY)
    assert_close(
        compute_gradients(reference, random_tensor(3, 4)),
        compute_gradients(library, random_tensor(3, 4)),
        **EXACTLY,
    )
