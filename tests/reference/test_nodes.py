"""The nodes of a computation graph by hand, against torch's arithmetic."""

from types import SimpleNamespace

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from cnnbench.reference.nodes import Add, Concatenate, Flatten, Multiply, Reshape

SIZES = st.integers(1, 4)
SHAPES = st.tuples(SIZES, SIZES, SIZES, SIZES)
ALONG = st.sets(st.integers(0, 3))  # the axes along which there is one number for all


def two(
    shape: tuple[int, ...], along_x: set[int], along_y: set[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Different random numbers, of one shape but for the axes along which either has one alone."""
    x, y = (
        [1 if axis in along else size for axis, size in enumerate(shape)]
        for along in (along_x, along_y)
    )
    return random_tensor(*x), random_tensor(1, *y).detach()[0].mul(2).requires_grad_()


@CASES
@given(shape=SHAPES, along_x=ALONG, along_y=ALONG)
def test_sums_and_their_gradients_are_those_of_torch(
    shape: tuple[int, ...], along_x: set[int], along_y: set[int]
) -> None:
    x, y = two(shape, along_x, along_y)
    assert_close(Add.apply(x, y), x + y, **EXACTLY)
    assert_close(compute_gradients(Add.apply, x, y), compute_gradients(torch.add, x, y), **EXACTLY)


@CASES
@given(shape=SHAPES, along_x=ALONG, along_y=ALONG)
def test_products_and_their_gradients_are_those_of_torch(
    shape: tuple[int, ...], along_x: set[int], along_y: set[int]
) -> None:
    x, y = two(shape, along_x, along_y)
    assert_close(Multiply.apply(x, y), x * y, **EXACTLY)
    assert_close(
        compute_gradients(Multiply.apply, x, y), compute_gradients(torch.mul, x, y), **EXACTLY
    )


@CASES
@given(channels=st.lists(SIZES, min_size=1, max_size=4), n=SIZES, h=SIZES, w=SIZES)
def test_concatenation_and_its_gradients_are_those_of_torch(
    channels: list[int], n: int, h: int, w: int
) -> None:
    maps = [random_tensor(n, c, h, w) for c in channels]
    assert_close(Concatenate.apply(*maps), torch.cat(maps, dim=1), **EXACTLY)
    assert_close(
        compute_gradients(Concatenate.apply, *maps),
        compute_gradients(lambda *each: torch.cat(each, dim=1), *maps),
        **EXACTLY,
    )


@pytest.mark.parametrize("operation", [Add.apply, Multiply.apply, Concatenate.apply])
def test_backward_is_the_derivative_of_forward(operation: object) -> None:
    assert gradcheck(operation, two((2, 3, 2, 2), set(), set()))


@pytest.mark.parametrize("operation", [Add.apply, Multiply.apply, Concatenate.apply])
def test_an_input_without_gradient_is_given_none(operation: object) -> None:
    x, y = two((2, 3, 2, 2), set(), set())
    assert_close(
        compute_gradients(operation, x, y.detach()),
        compute_gradients(operation, x, y)[:1],
        **EXACTLY,
    )
    assert_close(
        compute_gradients(operation, x.detach(), y),
        compute_gradients(operation, x, y)[1:],
        **EXACTLY,
    )


def test_an_input_has_a_gradient_of_its_own_shape() -> None:
    x, y = random_tensor(2, 3, 1, 1).detach(), random_tensor(3, 4, 5).detach()
    of_outputs = torch.ones(2, 3, 4, 5, dtype=torch.float64)
    context = SimpleNamespace(
        shapes=(x.shape, y.shape), saved_tensors=(x, y), needs_input_grad=(True, True)
    )
    for node in (Add, Multiply):  # autograd would mend it
        assert [gradient.shape for gradient in node.backward(context, of_outputs)] == [
            x.shape,
            y.shape,
        ]


def test_a_value_that_is_used_twice_has_the_sum_of_both_gradients() -> None:
    x = torch.tensor([1.0, -3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(Multiply.apply(x, x).sum(), x)
    assert gradient.tolist() == [2.0, -6.0]  # of x x
    (gradient,) = torch.autograd.grad(Add.apply(Multiply.apply(x, x), x).sum(), x)
    assert gradient.tolist() == [3.0, -5.0]  # of x x + x: three uses


def test_a_scale_for_each_map_has_the_sum_over_its_pixels() -> None:
    maps, scale = torch.ones(2, 3, 4, 5), torch.ones(2, 3, 1, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(Multiply.apply(maps, scale).sum(), scale)
    assert_close(gradient, torch.full((2, 3, 1, 1), 20.0))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "layer", [nn.Flatten(), nn.Flatten(0), nn.Flatten(2), nn.Flatten(1, 2), nn.Flatten(-3, -2)]
)
def test_the_layer_flattens_as_that_of_torch(layer: nn.Flatten, channels_last: bool) -> None:
    maps = random_tensor(2, 3, 4, 5)
    if channels_last:
        maps = maps.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    twin = Flatten(layer.start_dim, layer.end_dim)
    assert_close(twin(maps), layer(maps), **EXACTLY)
    assert_close(compute_gradients(twin, maps), compute_gradients(layer, maps), **EXACTLY)


def test_another_shape_is_given_back_its_gradients_in_the_old_one() -> None:
    assert gradcheck(Reshape.apply, (random_tensor(2, 3, 2), (3, 4)))
