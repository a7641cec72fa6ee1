"""The dropout of the reference implementation, compared with PyTorch's."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from helpers.random_tensors import CASES, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from cnnbench.reference.dropout import Dropout, InvertedDropout, OriginalDropout

SAME_BITS = {"rtol": 0.0, "atol": 0.0}
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4)
PROBABILITIES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1)


def make_layer_and_twin(p: float, inplace: bool = False) -> tuple[nn.Dropout, nn.Dropout]:
    layer, twin = nn.Dropout(p, inplace), nn.Dropout(p, inplace)
    twin.__class__ = Dropout
    return layer, twin


def run_seeded(
    layer: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor
) -> list[torch.Tensor]:
    """Return the outputs, the gradient, and the next random numbers of the generator."""
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
def test_same_seed_drops_the_same_numbers_as_torch(
    shape: list[int], p: float, dtype: torch.dtype, training: bool
) -> None:
    layer, twin = make_layer_and_twin(p)
    inputs = random_tensor(*shape).to(dtype)
    expected = run_seeded(layer.train(training), inputs)
    assert_close(run_seeded(twin.train(training), inputs), expected, **SAME_BITS)


def test_channels_last_inputs_match_torch() -> None:
    layer, twin = make_layer_and_twin(0.5)
    inputs = random_tensor(3, 4, 5, 2).to(memory_format=torch.channels_last)
    assert_close(run_seeded(twin, inputs), run_seeded(layer, inputs), **SAME_BITS)
    assert twin(inputs).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_backward_passes_gradcheck(p: float) -> None:
    def operation(inputs: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return InvertedDropout.apply(inputs, p)

    assert gradcheck(operation, random_tensor(3, 4))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_backward_of_the_original_passes_gradcheck(p: float, training: bool) -> None:
    def operation(inputs: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return OriginalDropout.apply(inputs, p, training)

    assert gradcheck(operation, random_tensor(3, 4))


@CASES
@given(shape=SHAPES, p=PROBABILITIES)
def test_original_drops_the_same_numbers_and_keeps_the_others(shape: list[int], p: float) -> None:
    inputs = random_tensor(*shape)
    original, gradient, _ = run_seeded(lambda x: OriginalDropout.apply(x, p, True), inputs)
    inverted, inverted_gradient, _ = run_seeded(lambda x: InvertedDropout.apply(x, p), inputs)
    assert_close(original, (1 - p) * inverted, rtol=1e-12, atol=0)
    assert_close(gradient, (1 - p) * inverted_gradient, rtol=1e-12, atol=0)
    assert bool(((original == inputs) | (original == 0)).all())


def test_original_scales_by_the_probability_to_be_kept_in_evaluation() -> None:
    inputs = torch.tensor([1.0, -2.0, 4.0])
    assert OriginalDropout.apply(inputs, 0.75, False).tolist() == [0.25, -0.5, 1.0]


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_outputs_of_both_forms_in_training_average_to_those_in_evaluation(
    p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    original, inverted = torch.zeros_like(inputs), torch.zeros_like(inputs)
    for kept in itertools.product([0.0, 1.0], repeat=3):  # every mask, with its probability
        mask = torch.tensor(kept, dtype=torch.float64)
        monkeypatch.setattr(torch.Tensor, "bernoulli_", lambda tensor, _, m=mask: tensor.copy_(m))
        probability = math.prod(1 - p if number else p for number in kept)
        original += probability * OriginalDropout.apply(inputs, p, True)
        inverted += probability * InvertedDropout.apply(inputs, p)
    in_evaluation = OriginalDropout.apply(inputs, p, False)
    assert_close(original, in_evaluation, rtol=0, atol=1e-15)
    assert_close(in_evaluation, (1 - p) * inputs, rtol=0, atol=0)
    _, twin = make_layer_and_twin(p)
    if p < 1:  # For p = 1 inverted dropout has nothing to divide.
        assert_close(inverted, twin.eval()(inputs), rtol=0, atol=1e-15)
    assert_close(original, (1 - p) * inverted, rtol=0, atol=1e-15)


def test_kept_numbers_are_divided_by_the_probability_to_be_kept() -> None:
    outputs = InvertedDropout.apply(torch.ones(100), 0.75)
    assert outputs.unique().tolist() == [0.0, 4.0]


def test_each_step_draws_another_mask() -> None:
    _, twin = make_layer_and_twin(0.5)
    assert not torch.equal(twin(torch.ones(100)), twin(torch.ones(100)))


def test_inplace_dropout_overwrites_its_inputs() -> None:
    _, twin = make_layer_and_twin(1.0, inplace=True)
    inputs = torch.ones(3)
    assert twin(inputs).tolist() == inputs.tolist() == [0.0, 0.0, 0.0]


def test_forward_and_backward_read_no_value() -> None:
    _, twin = make_layer_and_twin(0.5)
    inputs = torch.ones(2, 3, device="meta", requires_grad=True)  # A meta tensor has no values.
    twin(inputs).sum().backward()
    assert inputs.grad is not None
