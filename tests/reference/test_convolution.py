"""The convolution of the reference implementation, compared with loops, PyTorch and scipy."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional
from torch.testing import assert_close

from cnnbench.reference.convolution import (
    Conv2d,
    CrossCorrelation,
    col2im,
    convolve,
    cross_correlate_loops,
    im2col,
    output_size,
    pointwise,
)
from cnnbench.reference.linear import Affine

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, tuple[int, int], int]
SMALL = st.integers(1, 3)


@st.composite
def inputs(draw: st.DrawFn, max_groups: int = 3) -> Inputs:
    """Draw images, weight, bias or None, stride and groups that fit together."""
    kernel, stride = draw(st.tuples(SMALL, SMALL)), draw(st.tuples(SMALL, SMALL))
    height, width = (size + draw(st.integers(0, 5)) for size in kernel)
    groups = draw(st.integers(1, max_groups))
    images = random_tensor(draw(SMALL), groups * draw(SMALL), height, width)
    weight = random_tensor(groups * draw(SMALL), images.shape[1] // groups, *kernel)
    bias = random_tensor(len(weight)) if draw(st.booleans()) else None
    return images, weight, bias, stride, groups


def library(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *options: Any
) -> torch.Tensor:
    stride, groups = options
    return functional.conv2d(images, weight, bias, stride, groups=groups)


@CASES
@given(inputs())
def test_outputs_match_torch(case: Inputs) -> None:
    assert_close(CrossCorrelation.apply(*case), library(*case), **EXACTLY)


@CASES
@given(inputs())
def test_gradients_match_torch(case: Inputs) -> None:
    assert_close(
        compute_gradients(CrossCorrelation.apply, *case),
        compute_gradients(library, *case),
        **EXACTLY,
    )


@CASES
@given(inputs(max_groups=1))
def test_matrix_product_matches_loops(case: Inputs) -> None:
    images, weight, bias, stride, _ = case
    with torch.no_grad():  # The loops write into their outputs in place.
        by_loops = cross_correlate_loops(images, weight, bias, stride)
        assert_close(CrossCorrelation.apply(images, weight, bias, stride, 1), by_loops, **EXACTLY)


@pytest.mark.parametrize("groups", [1, 2])
def test_backward_passes_gradcheck(groups: int) -> None:
    images, weight, bias = (
        random_tensor(2, 4, 5, 4),
        random_tensor(2, 4 // groups, 3, 2),
        random_tensor(2),
    )
    assert gradcheck(CrossCorrelation.apply, (images, weight, bias, (2, 1), groups))


@pytest.mark.parametrize("index", range(3), ids=["images", "weight", "bias"])
def test_backward_computes_only_the_gradient_that_is_needed(index: int) -> None:
    images, weight, bias = random_tensor(2, 2, 4, 4), random_tensor(3, 2, 2, 2), random_tensor(3)
    expected: list[torch.Tensor | None] = [None] * 5
    expected[index] = compute_gradients(CrossCorrelation.apply, images, weight, bias, (1, 1), 1)[
        index
    ]
    wanted = [gradient is not None for gradient in expected]
    context = SimpleNamespace(
        saved_tensors=(images, weight), stride=(1, 1), groups=1, needs_input_grad=wanted
    )
    # The same weights of the outputs as in grads().
    grad_outputs = torch.linspace(-1.0, 1.5, 2 * 3 * 3 * 3, dtype=torch.float64).view(2, 3, 3, 3)
    assert_close(list(CrossCorrelation.backward(context, grad_outputs)), expected, **EXACTLY)


@CASES
@given(inputs())
def test_col2im_is_the_transpose_of_im2col(case: Inputs) -> None:
    images, weight, _, stride, _ = case
    columns = im2col(images.detach(), weight.shape[2:], stride)
    generator = torch.Generator().manual_seed(0)
    others = torch.randn(columns.shape, dtype=torch.float64, generator=generator)
    expected = (columns * others).sum()
    transposed = (images * col2im(others, images.shape[2:], stride)).sum()
    assert_close(transposed, expected, rtol=1e-9, atol=1e-9)


def test_im2col_columns_are_the_windows() -> None:
    images = torch.arange(12.0).view(1, 1, 3, 4)
    columns = im2col(images, (2, 2), (1, 2)).reshape(4, -1)
    assert columns.T.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [4, 5, 8, 9], [6, 7, 10, 11]]


@CASES
@given(inputs(max_groups=1))
def test_true_convolution_matches_torch_with_flipped_kernel(case: Inputs) -> None:
    images, weight, _, stride, _ = case

    def flipped(images: torch.Tensor, weight: torch.Tensor, stride: Any) -> torch.Tensor:
        return functional.conv2d(images, weight.flip(2, 3), stride=stride)

    arguments = images, weight, stride
    assert_close(convolve(*arguments), flipped(*arguments), **EXACTLY)
    assert_close(
        compute_gradients(convolve, *arguments), compute_gradients(flipped, *arguments), **EXACTLY
    )


def test_true_convolution_matches_scipy() -> None:
    image, kernel = random_tensor(6, 7).detach(), random_tensor(3, 2).detach()
    expected = torch.from_numpy(signal.convolve2d(image.numpy(), kernel.numpy(), mode="valid"))
    assert_close(convolve(image[None, None], kernel[None, None])[0, 0], expected, **EXACTLY)


@CASES
@given(n=SMALL, c=SMALL, h=SMALL, w=SMALL, m=SMALL)
def test_1x1_convolution_is_affine_layer_over_channels(
    n: int, c: int, h: int, w: int, m: int
) -> None:
    images, weight, bias = (
        random_tensor(n, c, h, w).detach(),
        random_tensor(m, c).detach(),
        random_tensor(m).detach(),
    )
    by_windows = CrossCorrelation.apply(images, weight[:, :, None, None], bias, (1, 1), 1)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, c)
    affine = Affine.apply(pixels, weight, bias).view(n, h, w, m).permute(0, 3, 1, 2)
    assert_close(affine, by_windows, **EXACTLY)
    assert_close(pointwise(images, weight, bias), by_windows, **EXACTLY)


@CASES
@given(kernel=st.integers(1, 7), stride=SMALL, padding=st.integers(0, 4), more=st.integers(0, 9))
def test_output_size_matches_torch(kernel: int, stride: int, padding: int, more: int) -> None:
    size = max(kernel - 2 * padding, 1) + more
    images, weight = torch.empty(1, 1, size, size), torch.empty(1, 1, kernel, kernel)
    outputs = functional.conv2d(images, weight, None, stride, padding)
    assert output_size(size, kernel, stride, padding) == outputs.shape[2]


def test_kernel_larger_than_image_is_refused() -> None:
    message = "A kernel of 5 does not fit into 4 pixels with a padding of 0"
    with pytest.raises(ValueError, match=message):
        CrossCorrelation.apply(
            random_tensor(1, 1, 6, 4), random_tensor(1, 1, 5, 5), None, (1, 1), 1
        )


LAYERS: dict[str, dict[str, Any]] = {
    "square": {"kernel_size": 3},
    "rectangular": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 1)},
    "no bias": {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False},
    "two groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 4},
    "1x1": {"kernel_size": 1, "stride": 2},
    "same, odd": {"kernel_size": 3, "padding": "same"},
    "same, even": {"kernel_size": (4, 2), "padding": "same"},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "reflect": {"kernel_size": 3, "padding": (1, 2), "padding_mode": "reflect"},
    "replicate": {"kernel_size": 3, "padding": (1, 2), "padding_mode": "replicate"},
    "circular": {"kernel_size": 3, "padding": (1, 2), "padding_mode": "circular"},
    "same, reflect": {"kernel_size": 4, "padding": "same", "padding_mode": "reflect"},
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_twin_layer_matches_torch_layer(options: dict[str, Any], channels_last: bool) -> None:
    layer = nn.Conv2d(4, 4, **options).double()
    twin = copy.deepcopy(layer)
    twin.__class__ = Conv2d
    images = random_tensor(2, 4, 7, 6)
    if channels_last:
        images = images.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert_close(twin(images), layer(images), **EXACTLY)

    def gradients(layer: nn.Module) -> list[torch.Tensor]:
        return compute_gradients(lambda images, *_: layer(images), images, *layer.parameters())

    assert_close(gradients(twin), gradients(layer), **EXACTLY)


def test_dropout_after_the_layer_draws_the_same_mask() -> None:
    layer, images = nn.Conv2d(2, 3, 3).double(), random_tensor(2, 2, 5, 5).detach()

    def dropped() -> torch.Tensor:
        torch.manual_seed(0)
        return functional.dropout(layer(images))

    expected = dropped()
    layer.__class__ = Conv2d
    assert_close(dropped(), expected, **EXACTLY)


def test_float32_layer_matches_torch() -> None:
    layer = nn.Conv2d(3, 4, 3, padding=1)
    images = random_tensor(2, 3, 6, 6).detach().float()
    expected = layer(images)
    layer.__class__ = Conv2d
    assert layer(images).dtype == torch.float32
    assert_close(layer(images), expected)


def test_dilation_is_refused() -> None:
    layer = nn.Conv2d(1, 1, 3, dilation=2)
    layer.__class__ = Conv2d
    message = "dilation is not implemented in the reference implementation. Allowed: dilation=1"
    with pytest.raises(ValueError, match=message):
        layer(random_tensor(1, 1, 8, 8).float())
