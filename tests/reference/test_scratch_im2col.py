"""im2col of Deep Learning from Scratch, compared with PyTorch's unfold."""

import numpy as np
import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from torch.testing import assert_close

from cnnbench.reference import convolution
from cnnbench.reference.scratch_im2col import im2col

SMALL = st.integers(1, 3)


def unfold(
    images: torch.Tensor, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0
) -> torch.Tensor:
    """Return the windows of `functional.unfold`, which are columns, as rows."""
    columns = functional.unfold(images, (filter_h, filter_w), stride=stride, padding=pad)
    return columns.transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize(("count", "rows"), [(1, 9), (10, 90)])
def test_shapes_are_those_of_the_notes(count: int, rows: int) -> None:
    images = random_tensor(count, 3, 7, 7).detach()
    windows = im2col(images, 5, 5, stride=1, pad=0)
    assert windows.shape == (rows, 75)
    assert_close(windows, unfold(images, 5, 5), **EXACTLY)
    array = im2col(images.numpy(), 5, 5, stride=1, pad=0)
    assert isinstance(array, np.ndarray)
    assert array.shape == (rows, 75)
    assert array.tolist() == windows.tolist()


@CASES
@given(
    sizes=st.tuples(SMALL, SMALL, st.integers(3, 6), st.integers(3, 6)),
    filter_h=SMALL,
    filter_w=SMALL,
    stride=SMALL,
    pad=st.integers(0, 2),
)
def test_windows_and_gradients_match_unfold(
    sizes: tuple[int, ...], filter_h: int, filter_w: int, stride: int, pad: int
) -> None:
    images = random_tensor(*sizes)
    arguments = images, filter_h, filter_w, stride, pad
    assert_close(im2col(*arguments), unfold(*arguments), **EXACTLY)
    assert_close(
        compute_gradients(im2col, *arguments), compute_gradients(unfold, *arguments), **EXACTLY
    )


def test_rows_are_the_windows_by_example_row_and_column() -> None:
    images = torch.arange(12.0).view(2, 1, 2, 3)
    assert im2col(images, 2, 2).tolist() == [
        *([0, 1, 3, 4], [1, 2, 4, 5]),
        *([6, 7, 9, 10], [7, 8, 10, 11]),
    ]


def test_stride_and_pad_default_to_one_and_zero() -> None:
    images = random_tensor(1, 2, 5, 5)
    assert_close(im2col(images, 3, 3), im2col(images, 3, 3, 1, 0), **EXACTLY)


def test_windows_are_the_transposed_columns_of_the_other_layout() -> None:
    images = random_tensor(2, 3, 5, 4)
    columns = convolution.im2col(images, (3, 2), (1, 1)).reshape(3 * 3 * 2, -1)
    assert_close(im2col(images, 3, 2), columns.T, **EXACTLY)


def test_product_of_windows_and_kernels_is_the_convolution() -> None:
    images, weight, bias = random_tensor(2, 3, 6, 6), random_tensor(4, 3, 3, 3), random_tensor(4)
    product = im2col(images, 3, 3, stride=2, pad=1) @ weight.view(4, -1).T + bias
    outputs = product.view(2, 3, 3, 4).permute(0, 3, 1, 2)
    expected = functional.conv2d(images, weight, bias, stride=2, padding=1)
    assert_close(outputs, expected, **EXACTLY)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_rows_of_an_array_keep_its_dtype(dtype: type[np.generic]) -> None:
    array = np.arange(8).reshape(1, 2, 2, 2).astype(dtype)
    rows = im2col(array, 2, 2)
    assert rows.dtype == dtype
    assert rows.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert im2col(array, 1, 1, stride=2, pad=1).tolist() == [[0, 0], [0, 0], [0, 0], [3, 7]]


def test_reversed_view_of_an_array_is_read_in_its_order() -> None:
    array = np.arange(4.0).reshape(1, 1, 2, 2)[:, :, ::-1, ::-1]
    assert im2col(array, 2, 2).tolist() == [[3, 2, 1, 0]]


def test_filter_larger_than_the_image_is_refused() -> None:
    message = "A kernel of 5 does not fit into 4 pixels with a padding of 0"
    with pytest.raises(ValueError, match=message):
        im2col(random_tensor(1, 1, 4, 6), 5, 5)
