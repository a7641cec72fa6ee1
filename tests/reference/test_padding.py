"""Padding by hand, against torch's."""

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional
from torch.testing import assert_close

from cnnbench.reference.padding import MODES, pad, sources

SIDES = st.tuples(*[st.integers(0, 4)] * 4)
LEAST = {
    "constant": 1,
    "reflect": 5,
    "replicate": 1,
    "circular": 4,
}  # the pixels that 4 more on a side take


@pytest.mark.parametrize("mode", MODES)
@CASES
@given(data=st.data())
def test_outputs_and_gradients_are_those_of_torch(mode: str, data: st.DataObject) -> None:
    few, side = st.integers(1, 3), st.integers(LEAST[mode], 7)
    images, sides = random_tensor(*data.draw(st.tuples(few, few, side, side))), data.draw(SIDES)

    def library(x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, sides, mode)

    def by_hand(x: torch.Tensor) -> torch.Tensor:
        return pad(x, sides, mode)

    assert_close(by_hand(images), library(images), **EXACTLY)
    assert_close(compute_gradients(by_hand, images), compute_gradients(library, images), **EXACTLY)


@pytest.mark.parametrize("value", [-2.5, float("inf"), -float("inf")])
def test_constants_other_than_zero(value: float) -> None:
    images = random_tensor(2, 3, 4, 5)
    assert_close(
        pad(images, (1, 2, 3, 0), "constant", value),
        functional.pad(images, (1, 2, 3, 0), value=value),
    )


@pytest.mark.parametrize("mode", MODES)
def test_backward_is_the_derivative_of_forward(mode: str) -> None:
    assert gradcheck(lambda images: pad(images, (1, 2, 3, 0), mode), random_tensor(2, 1, 4, 3))


@pytest.mark.parametrize("mode", MODES)
def test_images_in_any_memory_format_and_precision(mode: str) -> None:
    images = (
        random_tensor(2, 3, 4, 5).detach().float().contiguous(memory_format=torch.channels_last)
    )
    assert_close(
        pad(images, (1, 2, 3, 0), mode), functional.pad(images, (1, 2, 3, 0), mode), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("mode", "row"), [("reflect", "cbabcdcb"), ("replicate", "aaabcddd"), ("circular", "cdabcdab")]
)
def test_the_rows_that_the_chapter_shows(mode: str, row: str) -> None:
    assert "".join("abcd"[source] for source in sources(4, 2, 2, mode)) == row


def test_the_gradients_of_all_copies_of_a_pixel_are_folded_back_onto_it() -> None:
    images = torch.arange(9.0).view(1, 1, 3, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(pad(images, (2, 2, 2, 2), "replicate").sum(), images)
    assert gradient[0, 0].tolist() == [[9.0, 3.0, 9.0], [3.0, 1.0, 3.0], [9.0, 3.0, 9.0]]


@pytest.mark.parametrize(("mode", "most"), [("reflect", 2), ("circular", 3)])
@pytest.mark.parametrize("side", range(4))
def test_more_than_there_is_to_copy_is_refused(mode: str, most: int, side: int) -> None:
    sides = [most] * 4
    pad(random_tensor(1, 1, 3, 3), (most, most, most, most), mode)
    sides[side] += 1
    with pytest.raises(
        ValueError,
        match=rf"{mode} padding of 3 pixels adds at most {most} on a side, not {most + 1}",
    ):
        pad(random_tensor(1, 1, 3, 3), (sides[0], sides[1], sides[2], sides[3]), mode)


def test_a_mode_that_is_not_known_is_told_with_those_that_are() -> None:
    with pytest.raises(
        ValueError, match=r"'mirror' is not known\. Allowed: constant, reflect, replicate, circular"
    ):
        pad(random_tensor(1, 1, 3, 3), (1, 1, 1, 1), "mirror")


def test_no_padding_leaves_the_images_as_they_are() -> None:
    images = random_tensor(1, 1, 3, 3)
    assert pad(images, (0, 0, 0, 0), "reflect") is images
