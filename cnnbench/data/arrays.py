"""What a data set holds: images and labels in memory, to train on and to test on."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Arrays", "Images", "Labels", "mean_and_deviation"]

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


PORTION = 1024  # images whose levels are counted at a time


def mean_and_deviation(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels in [0, 1], one for each channel, exact but for the last rounding."""
    counts = np.zeros((1 if images.ndim == 3 else images.shape[1], 256), np.int64)
    for start in range(0, len(images), PORTION):
        portion = images[start : start + PORTION]
        for channel, count in enumerate(counts):
            count += np.bincount(portion[:, channel].ravel() if images.ndim == 4 else portion.ravel(), minlength=256)
    levels, pixels = np.arange(256) / 255, counts.sum(axis=1)
    mean = counts @ levels / pixels
    variance = counts @ levels**2 / pixels - mean**2
    return tuple(map(float, mean)), tuple(map(float, np.sqrt(variance.clip(0))))
