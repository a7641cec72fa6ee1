"""The first weights by hand: torch's numbers, and the variances that they are made for."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.random_tensors import CASES
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cnnbench.reference.initialization import (
    fans,
    he_normal_,
    he_uniform_,
    xavier_normal_,
    xavier_uniform_,
)

Fill = Callable[[torch.Tensor], torch.Tensor]

LIBRARY: dict[Fill, Fill] = {
    xavier_uniform_: nn.init.xavier_uniform_,
    xavier_normal_: nn.init.xavier_normal_,
    he_uniform_: lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    he_normal_: lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
}
EACH = pytest.mark.parametrize("fill", list(LIBRARY), ids=lambda fill: fill.__name__)
SIZES = st.integers(1, 6)
SHAPES = st.one_of(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES, SIZES, SIZES))


def seeded(fill: Fill, weight: torch.Tensor) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return fill(weight)


@EACH
@CASES
@given(
    shape=SHAPES, dtype=st.sampled_from([torch.float32, torch.float64]), channels_last=st.booleans()
)
def test_the_numbers_are_those_of_torch_to_the_bit(
    fill: Fill, shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool
) -> None:
    order = torch.channels_last if channels_last and len(shape) == 4 else torch.contiguous_format
    ours, theirs = (torch.empty(shape, dtype=dtype).to(memory_format=order) for _ in range(2))
    assert torch.equal(seeded(fill, ours), seeded(LIBRARY[fill], theirs))


@EACH
def test_a_parameter_is_filled_in_place(fill: Fill) -> None:
    weight = nn.Parameter(torch.zeros(3, 4))
    assert fill(weight) is weight
    assert weight.requires_grad
    assert weight.is_leaf
    assert weight.all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((120, 400), (400, 120)), ((16, 6, 5, 5), (150, 400)), ((8, 4, 1, 3), (12, 24))],
    ids=str,
)
def test_the_fans_are_those_counted_by_hand(
    shape: tuple[int, ...], expected: tuple[int, int]
) -> None:
    assert fans(torch.empty(shape)) == expected


@pytest.mark.parametrize(
    ("fill", "variance"),
    [
        (xavier_uniform_, 2 / (450 + 1800)),
        (xavier_normal_, 2 / (450 + 1800)),
        (he_uniform_, 2 / 450),
        (he_normal_, 2 / 450),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_variance_is_that_of_the_derivation(fill: Fill, variance: float) -> None:
    weight = seeded(
        fill, torch.empty(200, 50, 3, 3)
    )  # 90,000 numbers: their variance is right within 0.5 %
    assert weight.var().item() == pytest.approx(variance, rel=0.02)
    assert weight.mean().item() == pytest.approx(0.0, abs=0.02 * math.sqrt(variance))
    if "uniform" in fill.__name__:
        bound = math.sqrt(3 * variance)
        assert 0.99 * bound < weight.abs().max().item() <= bound * (1 + 1e-6)


def after_layers(fill: Fill, activation: Fill) -> float:
    """The mean square of what random numbers become in thirty affine layers, as a share of what it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        signal = begun = torch.randn(100, 400)
        for _ in range(30):
            signal = activation(signal @ fill(torch.empty(400, 400)).T)
    return (signal.square().mean() / begun.square().mean()).item()


def test_signals_pass_thirty_relus_with_he_and_are_halved_by_each_with_xavier() -> None:
    he, xavier = after_layers(he_normal_, torch.relu), after_layers(xavier_normal_, torch.relu)
    # thirty ReLUs halve it all the same, of which the last is not made up for by a layer behind it
    assert 2 * he == pytest.approx(1.0, rel=0.5)
    assert xavier / he == pytest.approx(2.0**-30, rel=1e-3)


def test_signals_pass_thirty_layers_without_activation_with_xavier() -> None:
    assert after_layers(xavier_normal_, lambda signal: signal) == pytest.approx(1.0, rel=0.5)
