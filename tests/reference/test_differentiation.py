"""Numerical differentiation: known derivatives, the orders of its errors, and what it does with what it is given."""

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

BOTH = pytest.mark.parametrize("difference", [one_sided_difference, central_difference])
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


@BOTH
@pytest.mark.parametrize(("x", "expected"), [(5.0, 0.2), (10.0, 0.3)])
def test_the_derivative_of_a_parabola_is_that_on_paper(
    difference: Difference, x: float, expected: float
) -> None:
    assert difference(lambda x: 0.01 * x**2 + 0.1 * x, x) == pytest.approx(expected, abs=1e-8)


@CASES
@given(a=st.integers(-9, 9), x=st.integers(-9, 9), k=st.integers(1, 20))
def test_of_a_parabola_the_one_sided_difference_errs_by_a_h_and_the_central_one_not_at_all(
    a: int, x: int, k: int
) -> None:
    h = 2.0**-k  # with which nothing is rounded here
    assert one_sided_difference(lambda x: a * x**2, x, h) == 2 * a * x + a * h
    assert central_difference(lambda x: a * x**2, x, h) == 2 * a * x


@pytest.mark.parametrize(
    ("difference", "h", "leading"),
    [(one_sided_difference, 1e-3, 1e-3 / 2), (central_difference, 1e-3, 1e-6 / 6)],
)
def test_the_error_is_the_first_term_that_taylor_leaves(
    difference: Difference, h: float, leading: float
) -> None:
    error = difference(math.exp, 1.0, h) - math.e
    assert error == pytest.approx(leading * math.e, rel=1e-3)  # each derivative of exp at 1 is e


@pytest.mark.parametrize(
    ("difference", "factor"), [(one_sided_difference, 2), (central_difference, 4)]
)
def test_half_the_step_halves_the_error_of_one_and_quarters_that_of_the_other(
    difference: Difference, factor: float
) -> None:
    whole, half = (difference(math.sin, 1.0, h) - math.cos(1.0) for h in (2.0**-8, 2.0**-9))
    assert whole / half == pytest.approx(factor, rel=0.01)


def errors_of_exp(difference: Difference) -> dict[int, float]:
    """By k, where h = 2^-k."""
    return {k: abs(difference(math.exp, 1.0, 2.0**-k) - math.e) for k in range(1, 52)}


@pytest.mark.parametrize(
    ("difference", "best", "least"),
    [(one_sided_difference, 26, 1e-7), (central_difference, 17, 1e-9)],
)
def test_the_best_step_is_about_the_root_of_eps_and_smaller_ones_are_worse_again(
    difference: Difference, best: int, least: float
) -> None:
    errors = errors_of_exp(difference)
    # rounding is a matter of luck: several steps together
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
def test_the_error_is_below_the_sum_of_both_that_the_chapter_names(
    difference: Difference, bound: Callable[[float], float]
) -> None:
    for k, error in errors_of_exp(difference).items():
        # exp itself may be rounded by a whole eps; and for large steps there are further terms of Taylor's
        assert error < 2 * bound(2.0**-k), k


@BOTH
def test_a_step_that_is_lost_in_rounding_gives_zero(difference: Difference) -> None:
    assert difference(math.exp, 1.0, 1e-50) == 0.0


@pytest.mark.parametrize(
    ("difference", "rel"), [(one_sided_difference, 1e-7), (central_difference, 1e-9)]
)
def test_the_steps_have_the_scale_of_large_numbers(difference: Difference, rel: float) -> None:
    assert difference(lambda x: x**3, -1e6) == pytest.approx(3e12, rel=rel)


@pytest.mark.parametrize(("index", "expected"), [((0,), 6.0), ((1,), 8.0), ((-1,), 8.0)])
def test_a_partial_derivative_is_that_on_paper(index: tuple[int, ...], expected: float) -> None:
    point = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert partial_derivative(bowl, point, index) == pytest.approx(expected, abs=1e-9)


@CASES
@given(shape=st.lists(SIZES, min_size=1, max_size=4), reverse=st.booleans())
def test_a_gradient_is_that_on_paper_in_the_shape_and_order_of_x(
    shape: list[int], reverse: bool
) -> None:
    x = random_tensor(*shape).detach()
    if reverse:
        x = x.permute(*reversed(range(x.ndim)))  # and so not contiguous
    assert_close(numerical_gradient(waves, x), slope_of_waves(x), rtol=0.0, atol=1e-9)


def test_a_tensor_without_dimensions_has_one_partial_derivative() -> None:
    gradient = numerical_gradient(bowl, torch.tensor(3.0, dtype=torch.float64))
    assert gradient.shape == ()
    assert gradient.item() == pytest.approx(6.0, abs=1e-9)


def test_a_one_sided_gradient_is_less_precise() -> None:
    x = random_tensor(3, 2).detach()
    central, one_sided = (
        (numerical_gradient(waves, x, difference=difference) - slope_of_waves(x)).abs().max()
        for difference in (central_difference, one_sided_difference)
    )
    assert 10 * central < one_sided < 1e-6


def test_the_step_that_is_given_is_taken() -> None:
    cubes = numerical_gradient(lambda x: x.pow(3).sum(), torch.zeros(2, dtype=torch.float64), h=0.5)
    assert cubes.tolist() == [0.25, 0.25]  # (h^3 + h^3) / (2 h)


def test_chosen_entries_are_those_of_the_whole_gradient_in_the_order_asked_for() -> None:
    x = random_tensor(2, 3, 4).detach().transpose(0, 2)
    entries = [7, 0, 23, -1, 7]
    assert torch.equal(
        numerical_gradient(waves, x, entries), numerical_gradient(waves, x).flatten()[entries]
    )


def test_an_entry_takes_two_calls() -> None:
    calls = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.clone())
        return bowl(x)

    numerical_gradient(counted, random_tensor(5, 5).detach(), [3, 4, 5])
    assert len(calls) == 6


def bits(x: torch.Tensor) -> list[int]:
    return x.contiguous().view(torch.int64).flatten().tolist()


ODD = [-0.0, 0.0, 0.1, 5e-324, -1e300, 1 / 3]


@BOTH
def test_what_is_differentiated_by_is_afterwards_what_it_was_to_the_bit(
    difference: Difference,
) -> None:
    x = torch.tensor(ODD, dtype=torch.float64)
    numerical_gradient(lambda x: x.sum(), x, difference=difference)
    assert bits(x) == bits(torch.tensor(ODD, dtype=torch.float64))


def test_it_is_so_too_if_the_function_fails() -> None:
    x = torch.tensor(ODD, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="no value here"):
        numerical_gradient(fails, x, [3])
    assert bits(x) == bits(torch.tensor(ODD, dtype=torch.float64))


def fails(x: torch.Tensor) -> float:
    raise RuntimeError("no value here")


def test_a_parameter_that_the_function_finds_by_itself_is_differentiated_by() -> None:
    layer = torch.nn.Linear(3, 1).double()
    inputs = random_tensor(5, 3).detach()
    gradient = numerical_gradient(lambda _: layer(inputs).sum(), layer.weight)
    assert_close(gradient, inputs.sum(dim=0, keepdim=True), rtol=0.0, atol=1e-9)
    assert layer.weight.requires_grad


def test_single_precision_is_refused() -> None:
    with pytest.raises(TypeError, match=r"are for float64, not torch\.float32"):
        numerical_gradient(bowl, torch.zeros(2))


@pytest.mark.parametrize("entry", [6, -7])
def test_an_entry_that_there_is_not_is_refused(entry: int) -> None:
    with pytest.raises(IndexError):
        numerical_gradient(bowl, random_tensor(2, 3).detach(), [entry])


@CASES
@given(shape=st.lists(SIZES, min_size=1, max_size=3))
def test_a_right_gradient_passes_its_check(shape: list[int]) -> None:
    x = random_tensor(*shape).detach()
    assert gradient_check(waves, slope_of_waves(x), x) < 1e-9


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("entries", "expected"), [(None, 0.025), ([1], 0.025), ([0, 2], 0.0)], ids=str
)
def test_a_wrong_entry_is_told_as_a_share_of_the_largest(
    entries: list[int] | None, expected: float, sign: int
) -> None:
    x = sign * torch.tensor([1.0, 3.0, 20.0], dtype=torch.float64)
    wrong = 2 * x + torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert gradient_check(bowl, wrong, x, entries) == pytest.approx(expected, abs=1e-9)


def test_a_gradient_of_zeros_is_checked_by_the_difference_itself() -> None:
    x = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert gradient_check(bowl, torch.zeros_like(x), x) == pytest.approx(6.0, abs=1e-9)
    assert gradient_check(lambda _: 5.0, torch.zeros_like(x), x) == 0.0


@pytest.mark.parametrize("entries", [None, [0], [1]], ids=str)
def test_a_gradient_that_is_not_a_number_does_not_pass(entries: list[int] | None) -> None:
    x = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert math.isnan(
        gradient_check(bowl, torch.tensor([2.0, math.nan], dtype=torch.float64), x, entries)
    )


START = torch.tensor([-3.0, 4.0], dtype=torch.float64)


def test_gradient_descent_takes_the_steps_on_paper_and_keeps_them() -> None:
    points = gradient_descent(bowl, START, lr=0.1, steps=100)
    assert points.shape == (101, 2)
    on_paper = torch.stack([0.8**step * START for step in range(101)])  # x - 0.1 * 2 x
    assert_close(points, on_paper, rtol=0.0, atol=1e-9)
    assert START.tolist() == [-3.0, 4.0]
    assert points[-1].norm() < 1e-8


def test_a_learning_rate_that_is_too_large_makes_it_diverge() -> None:
    assert gradient_descent(bowl, START, lr=10.0, steps=100)[-1].norm() > 1e100


def test_a_learning_rate_that_is_too_small_hardly_moves_it() -> None:
    moved = gradient_descent(bowl, START, lr=1e-10, steps=100)[-1] - START
    assert moved.tolist() == pytest.approx([6e-8, -8e-8], rel=1e-4)
