"""The padding of the reference implementation, compared with PyTorch's."""

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional
from torch.testing import assert_close

from cnnbench.reference.convolution import CrossCorrelation, output_size
from cnnbench.reference.padding import MODES, find_sources, pad, same_padding

SIDES = st.tuples(*[st.integers(0, 4)] * 4)
# The size that each mode needs to add 4 pixels on a side.
MIN_SIZE = {"constant": 1, "reflect": 5, "replicate": 1, "circular": 4}


@pytest.mark.parametrize("mode", MODES)
@CASES
@given(data=st.data())
def test_outputs_and_gradients_match_torch(mode: str, data: st.DataObject) -> None:
    count, size = st.integers(1, 3), st.integers(MIN_SIZE[mode], 7)
    images = random_tensor(*data.draw(st.tuples(count, count, size, size)))
    sides = data.draw(SIDES)

    def library(x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, sides, mode)

    def reference(x: torch.Tensor) -> torch.Tensor:
        return pad(x, sides, mode)

    assert_close(reference(images), library(images), **EXACTLY)
    assert_close(
        compute_gradients(reference, images), compute_gradients(library, images), **EXACTLY
    )


@pytest.mark.parametrize("value", [-2.5, float("inf"), -float("inf")])
def test_constants_other_than_zero_match_torch(value: float) -> None:
    images = random_tensor(2, 3, 4, 5)
    expected = functional.pad(images, (1, 2, 3, 0), value=value)
    assert_close(pad(images, (1, 2, 3, 0), "constant", value), expected)


@pytest.mark.parametrize("mode", MODES)
def test_backward_passes_gradcheck(mode: str) -> None:
    assert gradcheck(lambda images: pad(images, (1, 2, 3, 0), mode), random_tensor(2, 1, 4, 3))


@pytest.mark.parametrize("mode", MODES)
def test_channels_last_float32_images_match_torch(mode: str) -> None:
    images = (
        random_tensor(2, 3, 4, 5).detach().float().contiguous(memory_format=torch.channels_last)
    )
    expected = functional.pad(images, (1, 2, 3, 0), mode)
    assert_close(pad(images, (1, 2, 3, 0), mode), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("mode", "row"), [("reflect", "cbabcdcb"), ("replicate", "aaabcddd"), ("circular", "cdabcdab")]
)
def test_padded_rows_match_the_docstring(mode: str, row: str) -> None:
    assert "".join("abcd"[source] for source in find_sources(4, 2, 2, mode)) == row


def test_gradients_of_all_copies_are_added_to_their_pixel() -> None:
    images = torch.arange(9.0).view(1, 1, 3, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(pad(images, (2, 2, 2, 2), "replicate").sum(), images)
    assert gradient[0, 0].tolist() == [[9.0, 3.0, 9.0], [3.0, 1.0, 3.0], [9.0, 3.0, 9.0]]


@pytest.mark.parametrize(("mode", "max_padding"), [("reflect", 2), ("circular", 3)])
@pytest.mark.parametrize("side", range(4))
def test_more_padding_than_pixels_to_copy_is_refused(
    mode: str, max_padding: int, side: int
) -> None:
    sides = [max_padding] * 4
    pad(random_tensor(1, 1, 3, 3), (max_padding, max_padding, max_padding, max_padding), mode)
    sides[side] += 1
    message = f"{mode} padding of 3 pixels adds at most {max_padding} on a side"
    with pytest.raises(ValueError, match=f"{message}, not {max_padding + 1}"):
        pad(random_tensor(1, 1, 3, 3), (sides[0], sides[1], sides[2], sides[3]), mode)


def test_unknown_mode_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(
        ValueError, match=r"'mirror' is not known\. Allowed: constant, reflect, replicate, circular"
    ):
        pad(random_tensor(1, 1, 3, 3), (1, 1, 1, 1), "mirror")


def test_no_padding_returns_the_images_themselves() -> None:
    images = random_tensor(1, 1, 3, 3)
    assert pad(images, (0, 0, 0, 0), "reflect") is images


@pytest.mark.parametrize(
    ("kernel_size", "expected"),
    [(1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (1, 2)), (5, (2, 2)), (7, (3, 3)), (11, (5, 5))],
)
def test_same_padding_is_half_of_the_kernel_less_one(
    kernel_size: int, expected: tuple[int, int]
) -> None:
    assert same_padding(kernel_size) == expected
    if kernel_size % 2 == 1:  # The formula of the notes is for odd kernels.
        assert expected == ((kernel_size - 1) / 2, (kernel_size - 1) / 2)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kernel_size", range(1, 9))
def test_same_keeps_the_size_and_matches_torch(kernel_size: int) -> None:
    images, weight = random_tensor(2, 1, 9, 8), random_tensor(3, 1, kernel_size, kernel_size)
    sides = same_padding(kernel_size)
    outputs = CrossCorrelation.apply(pad(images, sides + sides), weight, None, (1, 1), 1)
    assert outputs.shape == (2, 3, 9, 8)
    assert_close(outputs, functional.conv2d(images, weight, padding="same"), **EXACTLY)


@pytest.mark.parametrize("kernel_size", range(1, 9))
def test_valid_is_no_padding_and_matches_torch(kernel_size: int) -> None:
    images, weight = random_tensor(2, 1, 9, 8), random_tensor(3, 1, kernel_size, kernel_size)
    outputs = CrossCorrelation.apply(images, weight, None, (1, 1), 1)
    assert outputs.shape == (2, 3, 10 - kernel_size, 9 - kernel_size)
    assert_close(outputs, functional.conv2d(images, weight, padding="valid"), **EXACTLY)


@pytest.mark.parametrize("kernel_size", [2, 4, 6])
def test_equal_sides_cannot_keep_the_size_with_an_even_kernel(kernel_size: int) -> None:
    sizes = [output_size(9, kernel_size, padding=padding) for padding in range(kernel_size)]
    assert 9 not in sizes
    assert sizes[kernel_size // 2 - 1 : kernel_size // 2 + 1] == [8, 10]


@pytest.mark.parametrize("kernel_size", [0, -3])
def test_same_padding_of_no_kernel_is_refused(kernel_size: int) -> None:
    with pytest.raises(ValueError, match=f"kernel size of {kernel_size} .* must be at least 1"):
        same_padding(kernel_size)


@pytest.mark.parametrize("value", [0.0, 0.5, -2.0])
def test_convolution_of_constant_padding_matches_torch_layers(value: float) -> None:
    layers = nn.Sequential(nn.ConstantPad2d((1, 2, 3, 0), value), nn.Conv2d(2, 3, 3)).double()
    images, weight, bias = random_tensor(2, 2, 4, 5), layers[1].weight, layers[1].bias

    def reference(images: torch.Tensor) -> torch.Tensor:
        padded = pad(images, (1, 2, 3, 0), "constant", value)
        outputs: torch.Tensor = CrossCorrelation.apply(padded, weight, bias, (1, 1), 1)
        return outputs

    assert_close(reference(images), layers(images), **EXACTLY)
    assert_close(compute_gradients(reference, images), compute_gradients(layers, images), **EXACTLY)


def test_padding_with_a_constant_is_zero_padding_of_shifted_images() -> None:
    images, weight, value = random_tensor(2, 2, 4, 5), random_tensor(3, 2, 3, 3), 0.7

    def convolve(padded: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = CrossCorrelation.apply(padded, weight, None, (1, 1), 1)
        return outputs

    by_value = convolve(pad(images, (1, 1, 1, 1), "constant", value))
    by_zeros = convolve(pad(images - value, (1, 1, 1, 1)))
    sums = value * weight.sum(dim=(1, 2, 3))
    assert_close(by_value, by_zeros + sums[:, None, None], **EXACTLY)
