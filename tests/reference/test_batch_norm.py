"""Batch normalisation by hand, against torch's."""

import copy
import math
from typing import Any

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from cnnbench.reference.batch_norm import (
    BatchNorm1d,
    BatchNorm2d,
    NormaliseByBatch,
    NormaliseByMoving,
)

TWINS = {nn.BatchNorm1d: BatchNorm1d, nn.BatchNorm2d: BatchNorm2d}
SIZES = st.integers(1, 4)
SHAPES = (st.tuples(SIZES, SIZES) | st.tuples(SIZES, SIZES, SIZES, SIZES)).filter(
    lambda shape: math.prod(shape) > shape[1]  # at least 2 values per channel
)
OPTIONS = st.fixed_dictionaries(
    {
        "eps": st.sampled_from([1e-5, 0.1]),
        "momentum": st.none() | st.sampled_from([0.0, 0.1, 0.9, 1.0]),
        "affine": st.booleans(),
        "track_running_stats": st.booleans(),
    }
)


def layer_and_twin(shape: tuple[int, ...], **options: Any) -> tuple[nn.Module, nn.Module]:
    """A layer in float64 for inputs (N, C) or (N, C, H, W), and one by hand with the same random parameters."""
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    layer = kind(shape[1], **options).double()
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = random_tensor(index + 2, shape[1])[0].detach()
    twin = copy.deepcopy(layer)
    twin.__class__ = TWINS[kind]
    return layer, twin


def batch(shape: tuple[int, ...], step: int) -> torch.Tensor:
    """Random inputs, other ones in each step, with a mean and a variance that change."""
    return ((step + 1) * random_tensor(step + 1, *shape)[step] + step).detach().requires_grad_()


def assert_the_same(layer: nn.Module, twin: nn.Module, inputs: torch.Tensor) -> None:
    """One step of both: outputs, gradients and, after it, buffers."""
    outputs, expected = twin(inputs), layer(inputs)
    assert_close(outputs, expected, **EXACTLY)
    weights = torch.linspace(-1, 1.5, inputs.numel(), dtype=inputs.dtype).view(inputs.shape)
    ours, theirs = [inputs, *twin.parameters()], [inputs, *layer.parameters()]
    assert_close(
        torch.autograd.grad(outputs, ours, weights),
        torch.autograd.grad(expected, theirs, weights),
        **EXACTLY,
    )
    assert_close(dict(twin.named_buffers()), dict(layer.named_buffers()), **EXACTLY)


@CASES
@given(shape=SHAPES, options=OPTIONS, steps=st.integers(1, 4))
def test_training_and_then_evaluation_are_those_of_torch(
    shape: tuple[int, ...], options: dict[str, Any], steps: int
) -> None:
    layer, twin = layer_and_twin(shape, **options)
    for step in range(steps):
        assert_the_same(layer, twin, batch(shape, step))
    assert_the_same(layer.eval(), twin.eval(), batch(shape, steps))


@pytest.mark.parametrize("training", [True, False])
def test_inputs_in_channels_last_order(training: bool) -> None:
    layer, twin = layer_and_twin((3, 4, 5, 2))
    inputs = batch((3, 4, 5, 2), 1).detach().to(memory_format=torch.channels_last).requires_grad_()
    assert_the_same(layer.train(training), twin.train(training), inputs)
    assert twin(inputs).is_contiguous(memory_format=torch.channels_last)


def test_a_weight_without_a_bias() -> None:
    layer, twin = layer_and_twin((3, 4, 5, 2))
    layer.bias = twin.bias = None
    assert_the_same(layer, twin, batch((3, 4, 5, 2), 1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wanted", ["inputs", "weight", "bias"])
def test_the_only_gradient_that_is_wanted(wanted: str, training: bool) -> None:
    def gradient(layer: nn.Module) -> torch.Tensor:
        inputs = batch((3, 4), 0)
        tensors = {"inputs": inputs, "weight": layer.weight, "bias": layer.bias}
        for name, tensor in tensors.items():
            tensor.requires_grad_(name == wanted)
        outputs = layer.train(training)(inputs)
        (grad,) = torch.autograd.grad(outputs, tensors[wanted], batch((3, 4), 1))
        return grad

    layer, twin = layer_and_twin((3, 4))
    assert_close(gradient(twin), gradient(layer), **EXACTLY)


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3, 2)])
def test_backward_is_the_derivative_of_forward(shape: tuple[int, ...]) -> None:
    assert gradcheck(
        lambda *given: NormaliseByBatch.apply(*given, 1e-5)[0],
        (random_tensor(*shape), random_tensor(2), random_tensor(1, 2)[0]),
    )


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3, 2)])
def test_backward_in_evaluation_is_the_derivative_of_forward(shape: tuple[int, ...]) -> None:
    mean, variance = torch.tensor([[0.5, -2.0], [0.3, 4.0]], dtype=torch.float64)

    def operation(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return NormaliseByMoving.apply(inputs, mean, variance, weight, bias, 1e-5)

    assert gradcheck(operation, (random_tensor(*shape), random_tensor(2), random_tensor(1, 2)[0]))


def test_values_known_by_hand() -> None:
    inputs, weight, bias = torch.tensor([[1.0], [3.0]]), torch.tensor([10.0]), torch.tensor([5.0])
    outputs, mean, variance = NormaliseByBatch.apply(inputs, weight, bias, 0.0)
    assert (outputs.tolist(), mean.tolist(), variance.tolist()) == ([[-5.0], [15.0]], [2.0], [1.0])


def test_the_moving_variance_is_unbiased() -> None:
    layer = nn.BatchNorm1d(1, momentum=0.5)
    layer.__class__ = BatchNorm1d
    layer(torch.tensor([[1.0], [3.0]]))  # variance 1; 2 without bias
    assert layer.running_var.tolist() == [0.5 * 1 + 0.5 * 2]


def test_the_variance_is_not_lost_beside_a_large_mean() -> None:
    inputs = random_tensor(1000, 3).detach() + 1e5
    expected, _, _ = NormaliseByBatch.apply(inputs, None, None, 1e-5)
    outputs, _, _ = NormaliseByBatch.apply(inputs.float(), None, None, 1e-5)
    assert_close(
        outputs, expected.float(), rtol=0, atol=0.02
    )  # the inputs themselves are rounded to 1/128


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_per_channel_is_refused_in_training_as_torch_does(shape: tuple[int, ...]) -> None:
    layer, twin = layer_and_twin(shape)
    with pytest.raises(
        ValueError, match="Expected more than 1 value per channel when training"
    ) as expected:
        layer(random_tensor(*shape))
    with pytest.raises(
        ValueError, match="Expected more than 1 value per channel when training"
    ) as refused:
        twin(random_tensor(*shape))
    assert str(refused.value) == str(expected.value)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_per_channel_is_taken_in_evaluation(shape: tuple[int, ...]) -> None:
    layer, twin = layer_and_twin(shape)
    assert_the_same(layer.eval(), twin.eval(), random_tensor(*shape))


@pytest.mark.parametrize(("shape", "wrong"), [((2, 3), (2, 3, 4, 5)), ((2, 3, 4, 5), (2, 3))])
def test_inputs_of_the_other_layer_are_refused(
    shape: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    _, twin = layer_and_twin(shape)
    with pytest.raises(ValueError, match="input"):
        twin(random_tensor(*wrong))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
def test_no_value_is_read(training: bool, momentum: float | None) -> None:
    _, twin = layer_and_twin((2, 3, 4, 5), momentum=momentum)
    inputs = torch.ones(
        2, 3, 4, 5, dtype=torch.float64, device="meta", requires_grad=True
    )  # where there is none
    twin.to("meta").train(training)(inputs).sum().backward()
    assert inputs.grad is not None
