"""Numerical differentiation: known derivatives, the order of its errors, and its edge cases."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.random_tensors import CASES, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from cnnbench.reference.differentiation import (
    central_difference,
    gradient_check,
    gradient_descent,
    numerical_gradient,
    one_sided_difference,
    partial_derivative,
)

Difference = Callable[..., float]

DIFFERENCES = pytest.mark.parametrize("difference", [one_sided_difference, central_difference])
EPS = 2.0**-52
SIZES = st.integers(1, 4)


def bowl(x: torch.Tensor) -> torch.Tensor:
    return x.square().sum()


def waves(x: torch.Tensor) -> torch.Tensor:
    return (x.sin() * factors(x)).sum()


def slope_of_waves(x: torch.Tensor) -> torch.Tensor:
    return x.cos() * factors(x)


def factors(x: torch.Tensor) -> torch.Tensor:
    return torch.linspace(-1, 2, x.numel(), dtype=torch.float64).view(x.shape)


@DIFFERENCES
@pytest.mark.parametrize(("x", "expected"), [(5.0, 0.2), (10.0, 0.3)])
def test_derivative_of_parabola(difference: Difference, x: float, expected: float) -> None:
    assert difference(lambda x: 0.01 * x**2 + 0.1 * x, x) == pytest.approx(expected, abs=1e-8)


@CASES
@given(a=st.integers(-9, 9), x=st.integers(-9, 9), k=st.integers(1, 20))
def test_error_on_parabola_is_a_h_one_sided_and_zero_central(a: int, x: int, k: int) -> None:
    h = 2.0**-k  # Nothing is rounded with a power of 2 here.
    assert one_sided_difference(lambda x: a * x**2, x, h) == 2 * a * x + a * h
    assert central_difference(lambda x: a * x**2, x, h) == 2 * a * x


@pytest.mark.parametrize(
    ("difference", "h", "leading"),
    [(one_sided_difference, 1e-3, 1e-3 / 2), (central_difference, 1e-3, 1e-6 / 6)],
)
def test_error_is_first_remaining_term_of_taylor_series(
    difference: Difference, h: float, leading: float
) -> None:
    error = difference(math.exp, 1.0, h) - math.e
    # Each derivative of exp at 1 is e.
    assert error == pytest.approx(leading * math.e, rel=1e-3)


@pytest.mark.parametrize(
    ("difference", "factor"), [(one_sided_difference, 2), (central_difference, 4)]
)
def test_half_the_step_halves_one_sided_and_quarters_central_error(
    difference: Difference, factor: float
) -> None:
    whole, half = (difference(math.sin, 1.0, h) - math.cos(1.0) for h in (2.0**-8, 2.0**-9))
    assert whole / half == pytest.approx(factor, rel=0.01)


def measure_errors_of_exp(difference: Difference) -> dict[int, float]:
    """Return the error of the derivative of exp at 1 for each k, where h = 2^-k."""
    return {k: abs(difference(math.exp, 1.0, 2.0**-k) - math.e) for k in range(1, 52)}


@pytest.mark.parametrize(
    ("difference", "best", "least"),
    [(one_sided_difference, 26, 1e-7), (central_difference, 17, 1e-9)],
)
def test_best_step_is_near_root_of_eps(difference: Difference, best: int, least: float) -> None:
    errors = measure_errors_of_exp(difference)
    # Rounding errors vary from step to step, so take the mean of three neighboring steps.
    means = {k: sum(errors[k + i] for i in (-1, 0, 1)) / 3 for k in range(2, 51)}
    assert min(means, key=means.__getitem__) == pytest.approx(best, abs=3)
    assert means[best] < least
    assert means[5] > 1000 * means[best]
    assert means[49] > 1000 * means[best]


@pytest.mark.parametrize(
    ("difference", "bound"),
    [
        (one_sided_difference, lambda h: h * math.e / 2 + EPS * math.e / h),
        (central_difference, lambda h: h**2 * math.e / 6 + EPS * math.e / (2 * h)),
    ],
    ids=["one-sided", "central"],
)
def test_error_is_below_sum_of_truncation_and_rounding(
    difference: Difference, bound: Callable[[float], float]
) -> None:
    for k, error in measure_errors_of_exp(difference).items():
        # exp itself may be rounded by a whole eps, and large steps add further Taylor terms.
        assert error < 2 * bound(2.0**-k), k


@DIFFERENCES
def test_step_lost_in_rounding_gives_zero(difference: Difference) -> None:
    assert difference(math.exp, 1.0, 1e-50) == 0.0


@pytest.mark.parametrize(
    ("difference", "rel"), [(one_sided_difference, 1e-7), (central_difference, 1e-9)]
)
def test_default_step_scales_with_large_x(difference: Difference, rel: float) -> None:
    assert difference(lambda x: x**3, -1e6) == pytest.approx(3e12, rel=rel)


@pytest.mark.parametrize(("index", "expected"), [((0,), 6.0), ((1,), 8.0), ((-1,), 8.0)])
def test_partial_derivative_of_bowl(index: tuple[int, ...], expected: float) -> None:
    point = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert partial_derivative(bowl, point, index) == pytest.approx(expected, abs=1e-9)


@CASES
@given(shape=st.lists(SIZES, min_size=1, max_size=4), reverse=st.booleans())
def test_gradient_has_shape_and_order_of_x(shape: list[int], reverse: bool) -> None:
    x = random_tensor(*shape).detach()
    if reverse:
        x = x.permute(*reversed(range(x.ndim)))  # x is no longer contiguous.
    assert_close(numerical_gradient(waves, x), slope_of_waves(x), rtol=0.0, atol=1e-9)


def test_zero_dimensional_tensor_has_one_partial_derivative() -> None:
    gradient = numerical_gradient(bowl, torch.tensor(3.0, dtype=torch.float64))
    assert gradient.shape == ()
    assert gradient.item() == pytest.approx(6.0, abs=1e-9)


def test_one_sided_gradient_is_less_precise() -> None:
    x = random_tensor(3, 2).detach()
    central, one_sided = (
        (numerical_gradient(waves, x, difference=difference) - slope_of_waves(x)).abs().max()
        for difference in (central_difference, one_sided_difference)
    )
    assert 10 * central < one_sided < 1e-6


def test_given_step_is_used() -> None:
    cubes = numerical_gradient(lambda x: x.pow(3).sum(), torch.zeros(2, dtype=torch.float64), h=0.5)
    assert cubes.tolist() == [0.25, 0.25]  # (h^3 + h^3) / (2 h)


def test_entries_select_from_gradient_in_their_order() -> None:
    x = random_tensor(2, 3, 4).detach().transpose(0, 2)
    entries = [7, 0, 23, -1, 7]
    expected = numerical_gradient(waves, x).flatten()[entries]
    assert torch.equal(numerical_gradient(waves, x, entries), expected)


def test_each_entry_takes_two_calls() -> None:
    calls = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.clone())
        return bowl(x)

    numerical_gradient(counted, random_tensor(5, 5).detach(), [3, 4, 5])
    assert len(calls) == 6


def to_bits(x: torch.Tensor) -> list[int]:
    return x.contiguous().view(torch.int64).flatten().tolist()


UNUSUAL = [-0.0, 0.0, 0.1, 5e-324, -1e300, 1 / 3]


@DIFFERENCES
def test_x_is_restored_to_the_bit(difference: Difference) -> None:
    x = torch.tensor(UNUSUAL, dtype=torch.float64)
    numerical_gradient(lambda x: x.sum(), x, difference=difference)
    assert to_bits(x) == to_bits(torch.tensor(UNUSUAL, dtype=torch.float64))


def test_x_is_restored_if_the_function_raises() -> None:
    def fail(x: torch.Tensor) -> float:
        raise RuntimeError("no value here")

    x = torch.tensor(UNUSUAL, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="no value here"):
        numerical_gradient(fail, x, [3])
    assert to_bits(x) == to_bits(torch.tensor(UNUSUAL, dtype=torch.float64))


def test_gradient_by_parameter_that_the_function_reads_from_a_layer() -> None:
    layer = torch.nn.Linear(3, 1).double()
    inputs = random_tensor(5, 3).detach()
    gradient = numerical_gradient(lambda _: layer(inputs).sum(), layer.weight)
    assert_close(gradient, inputs.sum(dim=0, keepdim=True), rtol=0.0, atol=1e-9)
    assert layer.weight.requires_grad


def test_float32_is_refused() -> None:
    with pytest.raises(TypeError, match=r"are for float64, not torch\.float32"):
        numerical_gradient(bowl, torch.zeros(2))


@pytest.mark.parametrize("entry", [6, -7])
def test_missing_entry_is_refused(entry: int) -> None:
    with pytest.raises(IndexError):
        numerical_gradient(bowl, random_tensor(2, 3).detach(), [entry])


@CASES
@given(shape=st.lists(SIZES, min_size=1, max_size=3))
def test_gradient_check_accepts_right_gradient(shape: list[int]) -> None:
    x = random_tensor(*shape).detach()
    assert gradient_check(waves, slope_of_waves(x), x) < 1e-9


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("entries", "expected"), [(None, 0.025), ([1], 0.025), ([0, 2], 0.0)], ids=str
)
def test_gradient_check_returns_share_of_largest_number(
    entries: list[int] | None, expected: float, sign: int
) -> None:
    x = sign * torch.tensor([1.0, 3.0, 20.0], dtype=torch.float64)
    wrong = 2 * x + torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert gradient_check(bowl, wrong, x, entries) == pytest.approx(expected, abs=1e-9)


def test_gradient_check_of_zeros_returns_difference() -> None:
    x = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert gradient_check(bowl, torch.zeros_like(x), x) == pytest.approx(6.0, abs=1e-9)
    assert gradient_check(lambda _: 5.0, torch.zeros_like(x), x) == 0.0


@pytest.mark.parametrize("entries", [None, [0], [1]], ids=str)
def test_gradient_check_of_nan_is_nan(entries: list[int] | None) -> None:
    x = torch.tensor([1.0, 3.0], dtype=torch.float64)
    gradient = torch.tensor([2.0, math.nan], dtype=torch.float64)
    assert math.isnan(gradient_check(bowl, gradient, x, entries))


START = torch.tensor([-3.0, 4.0], dtype=torch.float64)


def test_gradient_descent_returns_all_points() -> None:
    points = gradient_descent(bowl, START, lr=0.1, steps=100)
    assert points.shape == (101, 2)
    expected = torch.stack([0.8**step * START for step in range(101)])  # x - 0.1 * 2 x
    assert_close(points, expected, rtol=0.0, atol=1e-9)
    assert START.tolist() == [-3.0, 4.0]
    assert points[-1].norm() < 1e-8


def test_gradient_descent_diverges_with_large_learning_rate() -> None:
    assert gradient_descent(bowl, START, lr=10.0, steps=100)[-1].norm() > 1e100


def test_gradient_descent_hardly_moves_with_small_learning_rate() -> None:
    moved = gradient_descent(bowl, START, lr=1e-10, steps=100)[-1] - START
    assert moved.tolist() == pytest.approx([6e-8, -8e-8], rel=1e-4)
