"""The pooling of the reference implementation, compared with PyTorch's."""

import copy
from collections.abc import Callable

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

SMALL = st.integers(1, 3)
KINDS: dict[str, tuple[Operation, Operation]] = {
    "max": (MaxPool.apply, functional.max_pool2d),
    "min": (MinPool.apply, lambda maps, *options: -functional.max_pool2d(-maps, *options)),
    "mean": (MeanPool.apply, functional.avg_pool2d),
}
OPERATIONS = pytest.mark.parametrize(("reference", "library"), KINDS.values(), ids=KINDS)
LEVELS = st.sampled_from([-1.0, 0.0, 2.0])  # Few levels give windows several largest pixels.


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    """Draw maps, kernel size and stride that fit together."""
    kernel, stride = draw(st.tuples(SMALL, SMALL)), draw(st.tuples(SMALL, SMALL))
    height, width = (size + draw(st.integers(0, 5)) for size in kernel)
    return random_tensor(draw(SMALL), draw(SMALL), height, width), kernel, stride


@OPERATIONS
@CASES
@given(windows())
def test_outputs_and_gradients_match_torch(
    reference: Operation, library: Operation, case: Windows
) -> None:
    assert_close(reference(*case), library(*case), **EXACTLY)
    assert_close(compute_gradients(reference, *case), compute_gradients(library, *case), **EXACTLY)


@OPERATIONS
@CASES
@given(
    levels=st.lists(LEVELS, min_size=30, max_size=30),
    kernel=st.tuples(SMALL, SMALL),
    stride=st.tuples(SMALL, SMALL),
)
def test_first_of_several_equal_pixels_gets_the_gradient(
    reference: Operation, library: Operation, levels: list[float], kernel: Pair, stride: Pair
) -> None:
    maps = torch.tensor(levels, dtype=torch.float64).view(1, 1, 5, 6).requires_grad_()
    expected = compute_gradients(library, maps, kernel, stride)
    assert_close(compute_gradients(reference, maps, kernel, stride), expected, **EXACTLY)


@pytest.mark.parametrize("reference", [MaxPool.apply, MinPool.apply, MeanPool.apply])
@pytest.mark.parametrize("stride", [(2, 1), (3, 4)], ids=["overlapping", "with gaps"])
def test_backward_passes_gradcheck(reference: Operation, stride: Pair) -> None:
    distinct = torch.randperm(60, generator=torch.Generator().manual_seed(0)).double() / 10
    assert gradcheck(reference, (distinct.view(1, 2, 6, 5).requires_grad_(), (3, 2), stride))


@OPERATIONS
def test_nan_pixel_makes_the_output_nan(reference: Operation, library: Operation) -> None:
    for pixel in range(4):
        maps = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
        maps[pixel] = torch.nan
        maps = maps.view(1, 1, 2, 2).requires_grad_()
        assert reference(maps, (2, 2), (2, 2)).isnan().all()
        expected = compute_gradients(library, maps, (2, 2), (2, 2))
        assert_close(compute_gradients(reference, maps, (2, 2), (2, 2)), expected, **EXACTLY)


@CASES
@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_region_means_match_torch(height: int, width: int, size: Pair) -> None:
    maps, library = random_tensor(2, 3, height, width), functional.adaptive_avg_pool2d
    assert_close(RegionMeans.apply(maps, size), library(maps, size), **EXACTLY)
    assert_close(
        compute_gradients(RegionMeans.apply, maps, size),
        compute_gradients(library, maps, size),
        **EXACTLY,
    )


def test_backward_of_region_means_passes_gradcheck() -> None:
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
def test_twin_layer_matches_torch_layer(layer: nn.Module, channels_last: bool) -> None:
    maps = random_tensor(2, 3, 7, 8)
    if channels_last:
        maps = maps.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    twin = copy.deepcopy(layer)
    twin.__class__ = TWINS[type(layer)]
    assert_close(twin(maps), layer(maps), **EXACTLY)
    assert_close(compute_gradients(twin, maps), compute_gradients(layer, maps), **EXACTLY)


def test_min_pooling_ignores_padding() -> None:
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
def test_options_that_are_not_implemented_are_refused(layer: nn.Module, option: str) -> None:
    message = f"{option} is not implemented in the reference implementation. Allowed: "
    with pytest.raises(ValueError, match=message):
        layer(random_tensor(1, 1, 4, 4))


def test_float32_maps_give_float32_outputs() -> None:
    maps = random_tensor(1, 2, 4, 4).detach().float()
    for reference, _ in KINDS.values():
        assert reference(maps, (2, 2), (2, 2)).dtype == torch.float32
    assert RegionMeans.apply(maps, (1, 1)).dtype == torch.float32
