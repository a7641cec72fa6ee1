"""What a data set holds: images and labels in memory, to train on and to test on."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Arrays", "Images", "Labels"]

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]


class Arrays(NamedTuple):
    """Images uint8 [N, H, W] or [N, C, H, W] and their labels [N], whole numbers from 0."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
