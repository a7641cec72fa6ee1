"""The graph nodes of the reference implementation, compared with PyTorch's arithmetic."""

from types import SimpleNamespace

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from cnnbench.reference.activations import Logistic
from cnnbench.reference.nodes import Add, Concatenate, Divide, Exp, Flatten, Multiply, Reshape

SIZES = st.integers(1, 4)
SHAPES = st.tuples(SIZES, SIZES, SIZES, SIZES)
BROADCAST = st.sets(st.integers(0, 3))  # the axes along which there is one number for all


def draw_two(
    shape: tuple[int, ...], broadcast_x: set[int], broadcast_y: set[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x and y with different random numbers.

    Both have `shape`, but size 1 along the axes in `broadcast_x` and `broadcast_y`.
    """
    shape_x = [1 if axis in broadcast_x else size for axis, size in enumerate(shape)]
    shape_y = [1 if axis in broadcast_y else size for axis, size in enumerate(shape)]
    return random_tensor(*shape_x), random_tensor(1, *shape_y).detach()[0].mul(2).requires_grad_()


@CASES
@given(shape=SHAPES, broadcast_x=BROADCAST, broadcast_y=BROADCAST)
def test_sum_and_its_gradients_match_torch(
    shape: tuple[int, ...], broadcast_x: set[int], broadcast_y: set[int]
) -> None:
    x, y = draw_two(shape, broadcast_x, broadcast_y)
    assert_close(Add.apply(x, y), x + y, **EXACTLY)
    assert_close(compute_gradients(Add.apply, x, y), compute_gradients(torch.add, x, y), **EXACTLY)


@CASES
@given(shape=SHAPES, broadcast_x=BROADCAST, broadcast_y=BROADCAST)
def test_product_and_its_gradients_match_torch(
    shape: tuple[int, ...], broadcast_x: set[int], broadcast_y: set[int]
) -> None:
    x, y = draw_two(shape, broadcast_x, broadcast_y)
    assert_close(Multiply.apply(x, y), x * y, **EXACTLY)
    assert_close(
        compute_gradients(Multiply.apply, x, y), compute_gradients(torch.mul, x, y), **EXACTLY
    )


@CASES
@given(shape=SHAPES, broadcast_x=BROADCAST, broadcast_y=BROADCAST)
def test_quotient_and_its_gradients_match_torch(
    shape: tuple[int, ...], broadcast_x: set[int], broadcast_y: set[int]
) -> None:
    x, y = draw_two(shape, broadcast_x, broadcast_y)
    y = (y.sign() * (y.abs() + 0.5)).detach().requires_grad_()  # not near 0
    assert_close(Divide.apply(x, y), x / y, **EXACTLY)
    assert_close(
        compute_gradients(Divide.apply, x, y), compute_gradients(torch.div, x, y), **EXACTLY
    )


@CASES
@given(shape=SHAPES)
def test_exponential_and_its_gradient_match_torch(shape: tuple[int, ...]) -> None:
    x = random_tensor(*shape)
    assert_close(Exp.apply(x), torch.exp(x), **EXACTLY)
    assert_close(compute_gradients(Exp.apply, x), compute_gradients(torch.exp, x), **EXACTLY)


def test_known_quotient_and_exponential() -> None:
    x, y = torch.tensor(6.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    quotient = Divide.apply(x, y)
    assert quotient.item() == 3
    assert torch.autograd.grad(quotient, (x, y), torch.tensor(4.0)) == (2, -6)
    zero = torch.tensor(0.0, requires_grad=True)
    power = Exp.apply(zero)
    assert power.item() == 1
    assert torch.autograd.grad(power, zero, torch.tensor(5.0)) == (5,)


@CASES
@given(channels=st.lists(SIZES, min_size=1, max_size=4), n=SIZES, h=SIZES, w=SIZES)
def test_concatenation_and_its_gradients_match_torch(
    channels: list[int], n: int, h: int, w: int
) -> None:
    maps = [random_tensor(n, c, h, w) for c in channels]
    assert_close(Concatenate.apply(*maps), torch.cat(maps, dim=1), **EXACTLY)
    expected = compute_gradients(lambda *tensors: torch.cat(tensors, dim=1), *maps)
    assert_close(compute_gradients(Concatenate.apply, *maps), expected, **EXACTLY)


@pytest.mark.parametrize("operation", [Add.apply, Multiply.apply, Divide.apply, Concatenate.apply])
def test_backward_passes_gradcheck(operation: object) -> None:
    assert gradcheck(operation, draw_two((2, 3, 2, 2), set(), set()))


def test_backward_of_the_exponential_passes_gradcheck() -> None:
    assert gradcheck(Exp.apply, random_tensor(2, 3))


@pytest.mark.parametrize("operation", [Add.apply, Multiply.apply, Divide.apply, Concatenate.apply])
def test_input_that_requires_no_gradient_gets_none(operation: object) -> None:
    x, y = draw_two((2, 3, 2, 2), set(), set())
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


def test_gradient_of_a_broadcast_input_has_the_shape_of_the_input() -> None:
    x, y = random_tensor(2, 3, 1, 1).detach(), random_tensor(3, 4, 5).detach()
    grad_outputs = torch.ones(2, 3, 4, 5, dtype=torch.float64)
    context = SimpleNamespace(
        shapes=(x.shape, y.shape), saved_tensors=(x, y), needs_input_grad=(True, True)
    )
    # Call backward directly, because autograd would correct a wrong shape.
    for node in (Add, Multiply):
        gradients = node.backward(context, grad_outputs)
        assert [gradient.shape for gradient in gradients] == [x.shape, y.shape]
    context = SimpleNamespace(
        shape=x.shape, saved_tensors=(y, x / y), needs_input_grad=(True, True)
    )
    gradients = Divide.backward(context, grad_outputs)
    assert [gradient.shape for gradient in gradients] == [x.shape, y.shape]


def test_gradient_of_a_value_used_twice_is_a_sum() -> None:
    x = torch.tensor([1.0, -3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(Multiply.apply(x, x).sum(), x)
    assert gradient.tolist() == [2.0, -6.0]  # x x has two uses of x.
    (gradient,) = torch.autograd.grad(Add.apply(Multiply.apply(x, x), x).sum(), x)
    assert gradient.tolist() == [3.0, -5.0]  # x x + x has three.


def test_gradient_of_a_scale_per_map_is_the_sum_over_its_pixels() -> None:
    maps, scale = torch.ones(2, 3, 4, 5), torch.ones(2, 3, 1, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(Multiply.apply(maps, scale).sum(), scale)
    assert_close(gradient, torch.full((2, 3, 1, 1), 20.0))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "layer", [nn.Flatten(), nn.Flatten(0), nn.Flatten(2), nn.Flatten(1, 2), nn.Flatten(-3, -2)]
)
def test_flatten_layer_matches_torch(layer: nn.Flatten, channels_last: bool) -> None:
    maps = random_tensor(2, 3, 4, 5)
    if channels_last:
        maps = maps.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    twin = Flatten(layer.start_dim, layer.end_dim)
    assert_close(twin(maps), layer(maps), **EXACTLY)
    assert_close(compute_gradients(twin, maps), compute_gradients(layer, maps), **EXACTLY)


def test_backward_of_reshape_passes_gradcheck() -> None:
    assert gradcheck(Reshape.apply, (random_tensor(2, 3, 2), (3, 4)))


def sigmoid_graph(x: torch.Tensor) -> list[torch.Tensor]:
    """Return the values of the sigmoid as a graph of four nodes: -x, e^-x, 1 + e^-x and y."""
    one = torch.ones((), dtype=x.dtype)
    negative = Multiply.apply(x, -one)
    power = Exp.apply(negative)
    divisor = Add.apply(power, one)
    return [negative, power, divisor, Divide.apply(one, divisor)]


@CASES
@given(shape=SHAPES)
def test_sigmoid_as_a_graph_matches_the_sigmoid_in_one_step(shape: tuple[int, ...]) -> None:
    x = random_tensor(*shape)
    y = sigmoid_graph(x)[-1]
    assert_close(y, torch.sigmoid(x), **EXACTLY)
    assert_close(y, Logistic.apply(x), **EXACTLY)
    by_graph = compute_gradients(lambda x: sigmoid_graph(x)[-1], x)
    assert_close(by_graph, compute_gradients(torch.sigmoid, x), **EXACTLY)
    assert_close(by_graph, compute_gradients(Logistic.apply, x), **EXACTLY)


def test_gradients_in_the_sigmoid_graph_match_the_docstring() -> None:
    x = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    values = sigmoid_graph(x)
    dy = torch.tensor(3.0, dtype=torch.float64)
    gradients = torch.autograd.grad(values[-1], [x, *values[:-1]], dy)
    y, u = torch.sigmoid(x.detach()), 1 + torch.exp(-x.detach())
    product = dy * y * (1 - y)
    assert_close(list(gradients), [product, -product, -dy / u**2, -dy / u**2], **EXACTLY)


def test_sigmoid_graph_overflows_where_the_sigmoid_in_one_step_does_not() -> None:
    x = torch.tensor(-1000.0, requires_grad=True)
    (by_graph,) = torch.autograd.grad(sigmoid_graph(x)[-1], x)
    (in_one_step,) = torch.autograd.grad(Logistic.apply(x), x)
    assert by_graph.isnan()
    assert in_one_step.item() == 0
