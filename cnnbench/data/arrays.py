"""What a data set holds: images and labels in memory, to train on and to test on."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Arrays", "Images", "Labels", "mean_and_std"]

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]


class Arrays(NamedTuple):
    """Images uint8 [N, H, W] or [N, C, H, W] and their labels [N], whole numbers from 0.

    The last `num_validation` examples to train on are the validation set, where that was given.
    """

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    num_validation: int = 0


PORTION = 64  # images whose pixels are summed at a time
NUM_DIGITS = 4  # of mean and std, as many as in the catalog


def mean_and_std(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the rounded mean and standard deviation of the pixels in [0, 1] of each channel."""
    images = images[:, None] if images.ndim == 3 else images
    num_pixels = images[:, 0].size
    total = squares = np.zeros(images.shape[1], np.uint64)  # sums are exact
    for start in range(0, len(images), PORTION):
        portion = images[start : start + PORTION].astype(np.uint16)
        total = total + portion.sum((0, 2, 3), np.uint64)
        squares = squares + np.square(portion).sum((0, 2, 3), np.uint64)
    mean = total / num_pixels
    std = np.sqrt(squares / num_pixels - mean**2)
    mean, std = (mean / 255).round(NUM_DIGITS), (std / 255).round(NUM_DIGITS)
    return tuple(mean.tolist()), tuple(std.tolist())
