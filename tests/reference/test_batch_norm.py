"""The batch normalization of the reference implementation, compared with PyTorch's."""

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
    NormalizeByBatch,
    NormalizeByMovingAverages,
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


def make_layer_and_twin(shape: tuple[int, ...], **options: Any) -> tuple[nn.Module, nn.Module]:
    """Return a float64 layer of PyTorch and its twin, with the same random parameters.

    `shape` is that of the inputs, (N, C) or (N, C, H, W).
    """
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    layer = kind(shape[1], **options).double()
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = random_tensor(index + 2, shape[1])[0].detach()
    twin = copy.deepcopy(layer)
    twin.__class__ = TWINS[kind]
    return layer, twin


def draw_batch(shape: tuple[int, ...], step: int) -> torch.Tensor:
    """Return random inputs that differ in each step, also in their mean and variance."""
    return ((step + 1) * random_tensor(step + 1, *shape)[step] + step).detach().requires_grad_()


def assert_same_step(layer: nn.Module, twin: nn.Module, inputs: torch.Tensor) -> None:
    """Check that both layers have the same outputs, gradients and, after the step, buffers."""
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
def test_training_then_evaluation_matches_torch(
    shape: tuple[int, ...], options: dict[str, Any], steps: int
) -> None:
    layer, twin = make_layer_and_twin(shape, **options)
    for step in range(steps):
        assert_same_step(layer, twin, draw_batch(shape, step))
    assert_same_step(layer.eval(), twin.eval(), draw_batch(shape, steps))


@pytest.mark.parametrize("training", [True, False])
def test_channels_last_inputs_match_torch(training: bool) -> None:
    layer, twin = make_layer_and_twin((3, 4, 5, 2))
    inputs = (
        draw_batch((3, 4, 5, 2), 1).detach().to(memory_format=torch.channels_last).requires_grad_()
    )
    assert_same_step(layer.train(training), twin.train(training), inputs)
    assert twin(inputs).is_contiguous(memory_format=torch.channels_last)


def test_weight_without_bias_matches_torch() -> None:
    layer, twin = make_layer_and_twin((3, 4, 5, 2))
    layer.bias = twin.bias = None
    assert_same_step(layer, twin, draw_batch((3, 4, 5, 2), 1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wanted", ["inputs", "weight", "bias"])
def test_single_gradient_matches_torch(wanted: str, training: bool) -> None:
    def gradient(layer: nn.Module) -> torch.Tensor:
        inputs = draw_batch((3, 4), 0)
        tensors = {"inputs": inputs, "weight": layer.weight, "bias": layer.bias}
        for name, tensor in tensors.items():
            tensor.requires_grad_(name == wanted)
        outputs = layer.train(training)(inputs)
        (grad,) = torch.autograd.grad(outputs, tensors[wanted], draw_batch((3, 4), 1))
        return grad

    layer, twin = make_layer_and_twin((3, 4))
    assert_close(gradient(twin), gradient(layer), **EXACTLY)


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3, 2)])
def test_backward_in_training_passes_gradcheck(shape: tuple[int, ...]) -> None:
    assert gradcheck(
        lambda *tensors: NormalizeByBatch.apply(*tensors, 1e-5)[0],
        (random_tensor(*shape), random_tensor(2), random_tensor(1, 2)[0]),
    )


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 3, 2)])
def test_backward_in_evaluation_passes_gradcheck(shape: tuple[int, ...]) -> None:
    mean, variance = torch.tensor([[0.5, -2.0], [0.3, 4.0]], dtype=torch.float64)

    def operation(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return NormalizeByMovingAverages.apply(inputs, mean, variance, weight, bias, 1e-5)

    assert gradcheck(operation, (random_tensor(*shape), random_tensor(2), random_tensor(1, 2)[0]))


def test_known_outputs_mean_and_variance() -> None:
    inputs, weight, bias = torch.tensor([[1.0], [3.0]]), torch.tensor([10.0]), torch.tensor([5.0])
    outputs, mean, variance = NormalizeByBatch.apply(inputs, weight, bias, 0.0)
    assert (outputs.tolist(), mean.tolist(), variance.tolist()) == ([[-5.0], [15.0]], [2.0], [1.0])


def test_moving_variance_is_unbiased() -> None:
    layer = nn.BatchNorm1d(1, momentum=0.5)
    layer.__class__ = BatchNorm1d
    layer(torch.tensor([[1.0], [3.0]]))  # The biased variance is 1, the unbiased one 2.
    assert layer.running_var.tolist() == [0.5 * 1 + 0.5 * 2]


def test_variance_keeps_precision_beside_large_mean() -> None:
    inputs = random_tensor(1000, 3).detach() + 1e5
    expected, _, _ = NormalizeByBatch.apply(inputs, None, None, 1e-5)
    outputs, _, _ = NormalizeByBatch.apply(inputs.float(), None, None, 1e-5)
    # The float32 inputs themselves are rounded to 1/128.
    assert_close(outputs, expected.float(), rtol=0, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_training_on_one_value_per_channel_raises_the_error_of_torch(
    shape: tuple[int, ...],
) -> None:
    message = "Expected more than 1 value per channel when training"
    layer, twin = make_layer_and_twin(shape)
    with pytest.raises(ValueError, match=message) as expected:
        layer(random_tensor(*shape))
    with pytest.raises(ValueError, match=message) as raised:
        twin(random_tensor(*shape))
    assert str(raised.value) == str(expected.value)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_evaluation_accepts_one_value_per_channel(shape: tuple[int, ...]) -> None:
    layer, twin = make_layer_and_twin(shape)
    assert_same_step(layer.eval(), twin.eval(), random_tensor(*shape))


@pytest.mark.parametrize(("shape", "wrong"), [((2, 3), (2, 3, 4, 5)), ((2, 3, 4, 5), (2, 3))])
def test_inputs_with_wrong_number_of_axes_are_refused(
    shape: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    _, twin = make_layer_and_twin(shape)
    with pytest.raises(ValueError, match="input"):
        twin(random_tensor(*wrong))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
def test_forward_and_backward_read_no_value(training: bool, momentum: float | None) -> None:
    _, twin = make_layer_and_twin((2, 3, 4, 5), momentum=momentum)
    # A meta tensor has no values.
    inputs = torch.ones(2, 3, 4, 5, dtype=torch.float64, device="meta", requires_grad=True)
    twin.to("meta").train(training)(inputs).sum().backward()
    assert inputs.grad is not None
