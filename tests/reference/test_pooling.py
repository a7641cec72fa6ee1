"""Pooling by hand, against torch's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional
from torch.testing import assert_close

from cnnbench.models import lenet
from cnnbench.reference import pooling
from cnnbench.reference.pooling import MaxPool, MeanPool, MinPool, RegionMeans

Pair = tuple[int, int]
Operation = Callable[..., torch.Tensor]
Windows = tuple[torch.Tensor, Pair, Pair]

FEW = st.integers(1, 3)
KINDS: dict[str, tuple[Operation, Operation]] = {
    "max": (MaxPool.apply, functional.max_pool2d),
    "min": (MinPool.apply, lambda maps, *options: -functional.max_pool2d(-maps, *options)),
    "mean": (MeanPool.apply, functional.avg_pool2d),
}
OPERATIONS = pytest.mark.parametrize(("by_hand", "library"), KINDS.values(), ids=KINDS)
LEVELS = st.sampled_from([-1.0, 0.0, 2.0])  # few, so that windows have several largest pixels


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    """Maps, kernel size and stride that fit together."""
    kernel, stride = draw(st.tuples(FEW, FEW)), draw(st.tuples(FEW, FEW))
    height, width = (size + draw(st.integers(0, 5)) for size in kernel)
    return random_tensor(draw(FEW), draw(FEW), height, width), kernel, stride


@OPERATIONS
@CASES
@given(windows())
def test_outputs_and_gradients_are_those_of_torch(
    by_hand: Operation, library: Operation, case: Windows
) -> None:
    assert_close(by_hand(*case), library(*case), **EXACTLY)
    assert_close(compute_gradients(by_hand, *case), compute_gradients(library, *case), **EXACTLY)


@OPERATIONS
@CASES
@given(
    levels=st.lists(LEVELS, min_size=30, max_size=30),
    kernel=st.tuples(FEW, FEW),
    stride=st.tuples(FEW, FEW),
)
def test_of_several_equal_pixels_the_first_has_the_gradient(
    by_hand: Operation, library: Operation, levels: list[float], kernel: Pair, stride: Pair
) -> None:
    maps = torch.tensor(levels, dtype=torch.float64).view(1, 1, 5, 6).requires_grad_()
    assert_close(
        compute_gradients(by_hand, maps, kernel, stride),
        compute_gradients(library, maps, kernel, stride),
        **EXACTLY,
    )


@pytest.mark.parametrize("by_hand", [MaxPool.apply, MinPool.apply, MeanPool.apply])
@pytest.mark.parametrize("stride", [(2, 1), (3, 4)], ids=["overlapping", "with gaps"])
def test_backward_is_the_derivative_of_forward(by_hand: Operation, stride: Pair) -> None:
    distinct = torch.randperm(60, generator=torch.Generator().manual_seed(0)).double() / 10
    assert gradcheck(by_hand, (distinct.view(1, 2, 6, 5).requires_grad_(), (3, 2), stride))


@OPERATIONS
def test_what_is_not_a_number_is_not_hidden(by_hand: Operation, library: Operation) -> None:
    for pixel in range(4):
        maps = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
        maps[pixel] = torch.nan
        maps = maps.view(1, 1, 2, 2).requires_grad_()
        assert by_hand(maps, (2, 2), (2, 2)).isnan().all()
        assert_close(
            compute_gradients(by_hand, maps, (2, 2), (2, 2)),
            compute_gradients(library, maps, (2, 2), (2, 2)),
            **EXACTLY,
        )


@CASES
@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_means_of_regions_are_those_of_torch(height: int, width: int, size: Pair) -> None:
    maps = random_tensor(2, 3, height, width)
    assert_close(
        RegionMeans.apply(maps, size), functional.adaptive_avg_pool2d(maps, size), **EXACTLY
    )
    assert_close(
        compute_gradients(RegionMeans.apply, maps, size),
        compute_gradients(functional.adaptive_avg_pool2d, maps, size),
        **EXACTLY,
    )


def test_backward_of_means_of_regions_is_their_derivative() -> None:
    assert gradcheck(RegionMeans.apply, (random_tensor(2, 2, 5, 4), (2, 3)))


TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.MaxPool2d: pooling.MaxPool2d,
    lenet.MinPool2d: pooling.MinPool2d,
    nn.AvgPool2d: pooling.AvgPool2d,
    nn.AdaptiveAvgPool2d: pooling.AdaptiveAvgPool2d,
}
LAYERS: list[nn.Module] = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(kernel_size=3, stride=2),
    nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    nn.MaxPool2d(kernel_size=3, stride=1, padding=1),
    nn.MaxPool2d(kernel_size=(3, 2), stride=(1, 2), padding=(1, 0)),
    lenet.MinPool2d(kernel_size=2),
    lenet.MinPool2d(kernel_size=3, stride=2),
    nn.AvgPool2d(2),
    nn.AvgPool2d(kernel_size=5, stride=3),
    nn.AvgPool2d(kernel_size=1, stride=2),
    nn.AvgPool2d(kernel_size=3, stride=1, padding=1),
    nn.AvgPool2d(kernel_size=(2, 3), stride=(1, 2), padding=(1, 1)),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d(3),
    nn.AdaptiveAvgPool2d((2, 4)),
    nn.AdaptiveAvgPool2d((None, 2)),
]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_layer_with_its_class_changed_has_the_same_outputs_and_gradients(
    layer: nn.Module, channels_last: bool
) -> None:
    maps = random_tensor(2, 3, 7, 8)
    if channels_last:
        maps = maps.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    expected, gradients, kind = layer(maps), compute_gradients(layer, maps), type(layer)
    layer.__class__ = TWINS[kind]
    outputs, by_hand = layer(maps), compute_gradients(layer, maps)
    layer.__class__ = kind
    assert_close(outputs, expected, **EXACTLY)
    assert_close(by_hand, gradients, **EXACTLY)


def test_padding_of_the_smallest_is_larger_than_all() -> None:
    maps = random_tensor(1, 2, 4, 4).detach() + 9
    expected = -functional.max_pool2d(-maps, 3, 2, 1)
    assert_close(pooling.MinPool2d(3, 2, 1)(maps), expected, **EXACTLY)


@pytest.mark.parametrize(
    ("layer", "option"),
    [
        (pooling.MaxPool2d(2, ceil_mode=True), "ceil_mode=True"),
        (pooling.MaxPool2d(2, dilation=2), "dilation=2"),
        (pooling.MaxPool2d(2, return_indices=True), "return_indices=True"),
        (pooling.AvgPool2d(2, ceil_mode=True), "ceil_mode=True"),
        (pooling.AvgPool2d(2, count_include_pad=False), "count_include_pad=False"),
        (pooling.AvgPool2d(2, divisor_override=3), "divisor_override=3"),
    ],
    ids=str,
)
def test_options_that_no_network_uses_are_refused_in_words(layer: nn.Module, option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} is not written by hand. Allowed: "):
        layer(random_tensor(1, 1, 4, 4))


def test_maps_of_float32_stay_so() -> None:
    maps = random_tensor(1, 2, 4, 4).detach().float()
    results: list[Any] = [by_hand(maps, (2, 2), (2, 2)) for by_hand, _ in KINDS.values()]
    assert {each.dtype for each in [*results, RegionMeans.apply(maps, (1, 1))]} == {torch.float32}
