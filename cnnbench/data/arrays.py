"""Images and labels of a data set in memory, and the mean and std of pixels."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Arrays", "Images", "Labels", "measure_mean_and_std"]

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]


class Arrays(NamedTuple):
    """Images uint8 [N, H, W] or [N, C, H, W] and their labels [N], integers from 0.

    If the data set comes with a validation set, it is the last `num_validation` training examples.
    """

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    num_validation: int = 0


CHUNK = 64  # images summed at a time, so that their 16-bit copies stay small
NUM_DIGITS = 4  # decimals of mean and std, as in the catalog


def measure_mean_and_std(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of each channel, for pixels in [0, 1].

    Both are rounded to 4 decimals.
    """
    images = images[:, None] if images.ndim == 3 else images
    num_pixels = images[:, 0].size
    total = squares = np.zeros(images.shape[1], np.uint64)  # exact sums
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK].astype(np.uint16)
        total = total + chunk.sum((0, 2, 3), np.uint64)
        squares = squares + np.square(chunk).sum((0, 2, 3), np.uint64)
    mean = total / num_pixels
    std = np.sqrt(squares / num_pixels - mean**2)
    mean, std = (mean / 255).round(NUM_DIGITS), (std / 255).round(NUM_DIGITS)
    return tuple(mean.tolist()), tuple(std.tolist())
