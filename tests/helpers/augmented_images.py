"""Images whose pixels show how they were augmented."""

from itertools import product
from typing import Any

import torch
from msgspec.structs import replace

from cnnbench.config import AugmentConfig
from cnnbench.data.augment import Augment

__all__ = [
    "BLACK",
    "NUM_CLASSES",
    "SIZE",
    "augment",
    "constant_images",
    "make_augment",
    "make_labels",
    "numbered_images",
    "square_pixels",
]

SIZE = 6
NUM_CLASSES = 5
BLACK = -0.8
NO_AUGMENTATION = AugmentConfig(
    name="none", hflip=False, translate=0, cutout=0, random_erasing=0.0, mixup=0.0, cutmix=0.0
)


def make_augment(**changes: Any) -> Augment:
    """Return an augmentation with only the given settings turned on."""
    return Augment(replace(NO_AUGMENTATION, **changes), NUM_CLASSES, BLACK)


def augment(images: torch.Tensor, **changes: Any) -> torch.Tensor:
    """Return the images augmented with the given settings."""
    augmented, _ = make_augment(**changes)(images, make_labels(len(images)))
    return augmented


def numbered_images(count: int, size: int = SIZE) -> torch.Tensor:
    """Return images (N, 2, S, S) with different pixels within each image, none black or 0."""
    image = 1 + torch.arange(2 * size * size, dtype=torch.float32).reshape(1, 2, size, size)
    return image.repeat(count, 1, 1, 1)


def constant_images(count: int, size: int = SIZE) -> torch.Tensor:
    """Return images (N, 2, S, S); all pixels of image i are i + 1."""
    return (torch.arange(count) + 1.0)[:, None, None, None].repeat(1, 2, size, size)


def make_labels(count: int) -> torch.Tensor:
    """Return labels (N) that differ from the label before, also the first from the last."""
    return torch.arange(count) % (NUM_CLASSES - 1 if count % NUM_CLASSES == 1 else NUM_CLASSES)


def square_pixels(side: int, center: tuple[int, int]) -> frozenset[tuple[int, int]]:
    """Return row and column of the pixels in a square, clipped to an image of SIZE."""
    ranges = []
    for coordinate in center:
        start = coordinate - side // 2
        ranges.append(range(max(start, 0), min(start + side, SIZE)))
    return frozenset(product(*ranges))
