"""Preprocessing: resizing compared with torchvision, and normalization."""

import pytest
import torch
from torchvision import transforms

from cnnbench.data.arrays import Arrays
from cnnbench.data.preprocess import Preprocess

TOLERANCE = 1e-3  # gray levels, for the rounding of float32


@pytest.fixture
def images(sample: Arrays) -> torch.Tensor:
    return torch.tensor(sample["t10k-images-idx3-ubyte"][:100]).unsqueeze(1)


def resize(size: int, images: torch.Tensor) -> torch.Tensor:
    """Return the resized images in gray levels from 0 to 255, not rounded."""
    return 255 * Preprocess(size, mean=[0], std=[1])(images)


@pytest.mark.parametrize("size", [20, 96, 224])
def test_resizing_equals_torchvision_up_to_rounding(images: torch.Tensor, size: int) -> None:
    expected = transforms.Resize((size, size), antialias=True)(images)
    assert (resize(size, images) - expected).abs().max() <= 0.5 + TOLERANCE


def test_images_of_the_requested_size_keep_their_pixels(images: torch.Tensor) -> None:
    assert torch.equal(resize(28, images).round().to(torch.uint8), images)


def test_images_with_one_side_of_the_requested_size_are_resized(images: torch.Tensor) -> None:
    assert Preprocess(28, mean=[0], std=[1])(images[..., :20]).shape == (100, 1, 28, 28)


@pytest.mark.parametrize("size", [20, 28, 96])
def test_normalization_subtracts_mean_and_divides_by_std(images: torch.Tensor, size: int) -> None:
    original = images.clone()
    plain = Preprocess(size, mean=[0], std=[1])(images)
    normalized = Preprocess(size, mean=[0.286], std=[0.353])(images)
    torch.testing.assert_close(normalized, (plain - 0.286) / 0.353, rtol=0, atol=1e-5)
    assert (normalized.dtype, normalized.shape) == (torch.float32, (100, 1, size, size))
    assert torch.equal(images, original)


def test_black_and_white_become_0_and_1_without_normalization() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2).expand(1, 1, 2, 2)
    values = Preprocess(2, mean=[0], std=[1])(pixels)[0, 0, 0]
    torch.testing.assert_close(values, torch.tensor([0.0, 1.0]))


def test_each_channel_is_normalized_by_its_mean_and_std(images: torch.Tensor) -> None:
    channels = [images, 255 - images, images // 2]
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    expected = [
        Preprocess(28, [mean[index]], [std[index]])(channel)
        for index, channel in enumerate(channels)
    ]
    normalized = Preprocess(28, mean, std)(torch.cat(channels, dim=1))
    torch.testing.assert_close(normalized, torch.cat(expected, dim=1), rtol=0, atol=1e-6)
