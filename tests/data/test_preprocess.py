"""From pixels to the network's input: resizing as torchvision does it, and normalisation."""

import pytest
import torch
from torchvision import transforms

from cnnbench.data.arrays import Arrays
from cnnbench.data.preprocess import Preprocess

SLACK = 1e-3  # of one grey level of 255, for the rounding of float32


@pytest.fixture
def images(sample: Arrays) -> torch.Tensor:
    return torch.tensor(sample["t10k-images-idx3-ubyte"][:100]).unsqueeze(1)


def grey_levels(size: int, images: torch.Tensor) -> torch.Tensor:
    """The preprocessed images in units of uint8, with their fractions."""
    return 255 * Preprocess(size, mean=[0], std=[1])(images)


@pytest.mark.parametrize("size", [20, 96, 224])
def test_resizing_equals_torchvision_but_for_its_rounding(images: torch.Tensor, size: int) -> None:
    expected = transforms.Resize((size, size), antialias=True)(images)
    assert (grey_levels(size, images) - expected).abs().max() <= 0.5 + SLACK


def test_images_of_the_right_size_keep_their_pixels(images: torch.Tensor) -> None:
    assert torch.equal(grey_levels(28, images).round().to(torch.uint8), images)


def test_images_of_which_one_side_is_right_are_resized(images: torch.Tensor) -> None:
    assert Preprocess(28, mean=[0], std=[1])(images[..., :20]).shape == (100, 1, 28, 28)


@pytest.mark.parametrize("size", [20, 28, 96])
def test_mean_is_subtracted_and_std_divided_by(images: torch.Tensor, size: int) -> None:
    before = images.clone()
    plain = Preprocess(size, mean=[0], std=[1])(images)
    normalized = Preprocess(size, mean=[0.286], std=[0.353])(images)
    torch.testing.assert_close(normalized, (plain - 0.286) / 0.353, rtol=0, atol=1e-5)
    assert (normalized.dtype, normalized.shape) == (torch.float32, (100, 1, size, size))
    assert torch.equal(images, before)


def test_black_and_white_become_zero_and_one_without_normalisation() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2).expand(1, 1, 2, 2)
    torch.testing.assert_close(
        Preprocess(2, mean=[0], std=[1])(pixels)[0, 0, 0], torch.tensor([0.0, 1.0])
    )


def test_each_channel_is_normalised_by_its_own_mean_and_deviation(images: torch.Tensor) -> None:
    colours = torch.cat([images, 255 - images, images // 2], dim=1)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    alone = [
        Preprocess(28, mean[c : c + 1], std[c : c + 1])(colours[:, c : c + 1]) for c in range(3)
    ]
    torch.testing.assert_close(
        Preprocess(28, mean, std)(colours), torch.cat(alone, dim=1), rtol=0, atol=1e-6
    )
