"""Augmentation on the device, inside the training step; every image by random numbers of its own.

Only tensor operations of fixed shapes, and random numbers from the device's default generator alone: a
CUDA graph can hold them, each replay draws anew, and `seed` decides what is drawn.
"""

import math

import torch

from cnnbench.config import AugmentConfig

__all__ = ["Augment"]

# as Zhong et al. 2020 have them in all experiments
ERASED_AREA = (0.02, 0.4)  # shares of the image
ERASED_ASPECT = (0.3, 1 / 0.3)  # height to width


class Augment:
    """Augments a batch as the configuration says: mirrors, shifts, erases, cuts out and mixes, in this order.

    Args:
        config: what to do; what is 0 or false in it is left out.
        num_classes: K, of the targets where images are mixed.
        black: what a black pixel is after normalisation, a number or (C, 1, 1): it comes in where an image is
            shifted. Erased and cut-out pixels become 0, which after normalisation is the mean of the data.

    **Deviations**

    - Random erasing (Zhong et al. 2020) fills with the mean, one of the paper's variants, not with noise; and
      where the paper draws a rectangle again that does not fit, its sides are shortened to the image's here.
    - Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) draw a share per image where the papers' programs
      draw one per batch. An image is mixed with the one before it in the batch, as batches are shuffled already.
    - In mixup the image itself has the larger share, so that the accuracy against `labels` means something:
      max(lambda, 1 - lambda). In CutMix its share is what the square leaves of it, be it little.
    """

    def __init__(
        self, config: AugmentConfig, num_classes: int, black: float | torch.Tensor
    ) -> None:
        self.config = config
        self.num_classes = num_classes
        self.black = black

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised float images (N, C, S, S) and labels int64 (N) to images alike and the targets of the loss.

        Type and memory format stay; the arguments are not changed. The targets are `labels` themselves or,
        where images are mixed, the probabilities of the classes: (N, K), of the type of the images.
        """
        config = self.config
        if config.hflip or config.translate > 0:
            images = self._flip_and_shift(images)
        if config.random_erasing > 0:
            images = _without(images, _rectangles(images, config.random_erasing))
        if config.cutout > 0:
            images = _without(images, _squares(images, config.cutout))
        if config.mixup > 0:
            return self._mixup(images, labels)
        if config.cutmix > 0:
            return self._cutmix(images, labels)
        return images, labels

    def _flip_and_shift(self, images: torch.Tensor) -> torch.Tensor:
        count, _, size, _ = images.shape
        pixels = torch.arange(size, device=images.device)
        shift = self.config.translate
        down, right = torch.randint(-shift, shift + 1, (2, count, 1), device=images.device).unbind()
        rows, columns = (
            pixels - down,
            pixels - right,
        )  # (N, S): where each row and column comes from
        black = _outside(rows, size)[:, :, None] | _outside(columns, size)[:, None, :]  # (N, S, S)
        if self.config.hflip:
            mirrored = torch.rand(count, 1, device=images.device) < 0.5
            columns = torch.where(mirrored, size - 1 - columns, columns)
        batch = torch.arange(count, device=images.device)
        rows, columns = rows.clamp(0, size - 1), columns.clamp(0, size - 1)
        # dimensions that are indexed come first: (N, S, S, C)
        moved = images[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        # copied for the memory format: a new tensor has that of the indexing
        moved = torch.empty_like(images).copy_(moved.permute(0, 3, 1, 2))
        return torch.where(
            black[:, None].logical_not(), moved, self.black
        )  # the first decides the memory format

    def _mixup(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each image faded into the one before it: Zhang et al. 2018."""
        share = _symmetric_beta(self.config.mixup, images)
        share = torch.minimum(share, 1 - share)  # of the other image
        mixed = images.lerp(images.roll(1, 0), share.to(images.dtype)[:, None, None, None])
        return mixed, self._probabilities(labels, share.to(images.dtype))

    def _cutmix(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A square of each image replaced by the same one of the image before it: Yun et al. 2019."""
        share = _symmetric_beta(self.config.cutmix, images)
        squares = _squares(images, (images.shape[-1] * share.sqrt()).long())
        mixed = torch.where(
            squares.logical_not(), images, images.roll(1, 0)
        )  # the first decides the memory format
        return mixed, self._probabilities(labels, squares.to(images.dtype).mean(dim=(1, 2, 3)))

    def _probabilities(self, labels: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Targets (N, K) in which the label of the image before has `share` (N)."""
        classes = torch.arange(self.num_classes, device=labels.device)
        one_hot = (labels[:, None] == classes).to(
            share.dtype
        )  # functional.one_hot reads labels on the host
        return one_hot.lerp(one_hot.roll(1, 0), share[:, None])


def _outside(positions: torch.Tensor, size: int) -> torch.Tensor:
    return (positions < 0) | (positions >= size)


def _without(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return images.clone().masked_fill_(masks, 0)  # the memory format is lost unless filled in place


def _boxes(
    size: int,
    top: torch.Tensor,
    left: torch.Tensor,
    height: torch.Tensor | int,
    width: torch.Tensor | int,
) -> torch.Tensor:
    """Masks bool (N, 1, S, S), true in a box per image; what lies outside the image is cut off."""
    pixels = torch.arange(size, device=top.device)
    rows = (pixels >= top[:, None]) & (pixels < (top + height)[:, None])
    columns = (pixels >= left[:, None]) & (pixels < (left + width)[:, None])
    return rows[:, None, :, None] & columns[:, None, None, :]


def _squares(images: torch.Tensor, sides: torch.Tensor | int) -> torch.Tensor:
    """Masks (N, 1, S, S) of squares around random pixels, which may lie partly outside: DeVries and Taylor 2017."""
    size = images.shape[-1]
    down, right = torch.randint(size, (2, len(images)), device=images.device).unbind()
    return _boxes(size, down - sides // 2, right - sides // 2, sides, sides)


def _rectangles(images: torch.Tensor, probability: float) -> torch.Tensor:
    """Masks (N, 1, S, S) of random rectangles, empty but with `probability`: Zhong et al. 2020, algorithm 1."""
    size = images.shape[-1]
    area, aspect, down, right, chance = torch.rand(5, len(images), device=images.device).unbind()
    area = size * size * (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area)
    aspect = ERASED_ASPECT[0] + (ERASED_ASPECT[1] - ERASED_ASPECT[0]) * aspect
    height = (area * aspect).sqrt().round().clamp(1, size)
    width = (area / aspect).sqrt().round().clamp(1, size)
    top, left = (down * (size - height + 1)).floor(), (right * (size - width + 1)).floor()
    return _boxes(size, top, left, height, width) & (chance < probability)[:, None, None, None]


def _symmetric_beta(alpha: float, images: torch.Tensor) -> torch.Tensor:
    """Random numbers float32 (N) from Beta(alpha, alpha), by Devroye 1996 ("in one line of code").

    A Student's t by Bailey's polar method, transformed. Nothing is rejected, so it takes a fixed number of
    operations, and those of every device: torch.distributions.Beta needs a gamma that not every device has.
    """
    radius, angle = torch.rand(2, len(images), device=images.device).unbind()
    power = radius ** (1 / alpha)
    cosine = torch.cos(2 * math.pi * angle)
    return (1 + cosine * ((1 - power) / (power + (1 - power) * cosine.square())).sqrt()) / 2
