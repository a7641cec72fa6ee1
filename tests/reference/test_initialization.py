"""The initial weights of the reference implementation: torch's numbers, and their variances."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers.random_tensors import CASES
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cnnbench.reference.initialization import (
    compute_fans,
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
EVERY_FILL = pytest.mark.parametrize("fill", list(LIBRARY), ids=lambda fill: fill.__name__)
SIZES = st.integers(1, 6)
SHAPES = st.one_of(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES, SIZES, SIZES))


def fill_seeded(fill: Fill, weight: torch.Tensor) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return fill(weight)


@EVERY_FILL
@CASES
@given(
    shape=SHAPES, dtype=st.sampled_from([torch.float32, torch.float64]), channels_last=st.booleans()
)
def test_numbers_match_torch_to_the_bit(
    fill: Fill, shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool
) -> None:
    order = torch.channels_last if channels_last and len(shape) == 4 else torch.contiguous_format
    ours, theirs = (torch.empty(shape, dtype=dtype).to(memory_format=order) for _ in range(2))
    assert torch.equal(fill_seeded(fill, ours), fill_seeded(LIBRARY[fill], theirs))


@EVERY_FILL
def test_parameter_is_filled_in_place(fill: Fill) -> None:
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
def test_fans_of_known_shapes(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert compute_fans(torch.empty(shape)) == expected


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
def test_variance_matches_the_derivation(fill: Fill, variance: float) -> None:
    # The variance of 90,000 numbers is right within 0.5 %.
    weight = fill_seeded(fill, torch.empty(200, 50, 3, 3))
    assert weight.var().item() == pytest.approx(variance, rel=0.02)
    assert weight.mean().item() == pytest.approx(0.0, abs=0.02 * math.sqrt(variance))
    if "uniform" in fill.__name__:
        bound = math.sqrt(3 * variance)
        assert 0.99 * bound < weight.abs().max().item() <= bound * (1 + 1e-6)


def measure_gain(fill: Fill, activation: Fill) -> float:
    """Return by how much thirty affine layers multiply the mean square of random inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        signal = inputs = torch.randn(100, 400)
        for _ in range(30):
            signal = activation(signal @ fill(torch.empty(400, 400)).T)
    return (signal.square().mean() / inputs.square().mean()).item()


def test_he_keeps_signals_through_thirty_relus_and_xavier_halves_them_in_each() -> None:
    he, xavier = measure_gain(he_normal_, torch.relu), measure_gain(xavier_normal_, torch.relu)
    # No layer follows the last ReLU to make up for its halving.
    assert 2 * he == pytest.approx(1.0, rel=0.5)
    assert xavier / he == pytest.approx(2.0**-30, rel=1e-3)


def test_xavier_keeps_signals_through_thirty_layers_without_activation() -> None:
    assert measure_gain(xavier_normal_, lambda signal: signal) == pytest.approx(1.0, rel=0.5)
