"""Dropout by hand, against torch's."""

import pytest
import torch
from helpers.random_tensors import CASES, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from cnnbench.reference.dropout import Dropout, InvertedDropout

SAME_BITS = {"rtol": 0.0, "atol": 0.0}
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4)
PROBABILITIES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1)


def layer_and_twin(p: float, inplace: bool = False) -> tuple[nn.Dropout, nn.Dropout]:
    layer, twin = nn.Dropout(p, inplace), nn.Dropout(p, inplace)
    twin.__class__ = Dropout
    return layer, twin


def seeded(layer: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, gradient, and what is drawn next."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        outputs = layer(inputs)
        (grad,) = torch.autograd.grad(outputs, inputs, torch.full_like(outputs, 3.0))
        return [outputs, grad, torch.rand(4)]


@CASES
@given(
    shape=SHAPES,
    p=PROBABILITIES,
    dtype=st.sampled_from([torch.float32, torch.float64]),
    training=st.booleans(),
)
def test_the_same_seed_drops_what_torch_drops(
    shape: list[int], p: float, dtype: torch.dtype, training: bool
) -> None:
    layer, twin = layer_and_twin(p)
    inputs = random_tensor(*shape).to(dtype)
    assert_close(
        seeded(twin.train(training), inputs), seeded(layer.train(training), inputs), **SAME_BITS
    )


def test_inputs_in_channels_last_order() -> None:
    layer, twin = layer_and_twin(0.5)
    inputs = random_tensor(3, 4, 5, 2).to(memory_format=torch.channels_last)
    assert_close(seeded(twin, inputs), seeded(layer, inputs), **SAME_BITS)
    assert twin(inputs).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_backward_is_the_derivative_of_forward(p: float) -> None:
    def operation(inputs: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return InvertedDropout.apply(inputs, p)

    assert gradcheck(operation, random_tensor(3, 4))


def test_what_is_kept_is_divided_by_the_probability_to_be_kept() -> None:
    outputs = InvertedDropout.apply(torch.ones(100), 0.75)
    assert outputs.unique().tolist() == [0.0, 4.0]


def test_each_step_drops_others() -> None:
    _, twin = layer_and_twin(0.5)
    assert not torch.equal(twin(torch.ones(100)), twin(torch.ones(100)))


def test_dropout_in_place_changes_what_it_is_given() -> None:
    _, twin = layer_and_twin(1.0, inplace=True)
    inputs = torch.ones(3)
    assert twin(inputs).tolist() == inputs.tolist() == [0.0, 0.0, 0.0]


def test_no_value_is_read() -> None:
    _, twin = layer_and_twin(0.5)
    inputs = torch.ones(2, 3, device="meta", requires_grad=True)  # where there is none
    twin(inputs).sum().backward()
    assert inputs.grad is not None
