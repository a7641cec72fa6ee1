"""Augmentation on the device, inside the training step, with separate random numbers per image.

All operations are tensor operations of fixed shapes. All random numbers are drawn from the default
generator of the device. So a CUDA graph can hold the operations, each replay draws new numbers, and
`seed` determines them.
"""

import math

import torch

from cnnbench.config import AugmentConfig

__all__ = ["Augment"]

# Zhong et al. 2020 use these ranges in all experiments.
ERASED_AREA = (0.02, 0.4)  # share of the image
ERASED_ASPECT = (0.3, 1 / 0.3)  # height to width


class Augment:
    """Augments a batch: flips, translates, erases, cuts out and mixes, in this order.

    Args:
        config: the settings of each operation; 0 or false turns it off.
        num_classes: K, the number of classes in the targets of mixed images.
        black: the value of a black pixel after normalization, a number or (C, 1, 1). It fills the
            area that translation uncovers. Erased and cut-out pixels become 0, which after
            normalization is the mean of the data.

    **Deviations**

    - Random erasing (Zhong et al. 2020) fills with the mean, one of the paper's variants, not with
      noise. Where the paper draws a rectangle that does not fit again, its sides are shortened to
      those of the image here.
    - Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) draw a share per image. The papers'
      programs draw one per batch. An image is mixed with the one before it in the batch, because
      batches are shuffled already.
    - In mixup the image itself has the larger share, max(lambda, 1 - lambda), so that the accuracy
      against `labels` is meaningful. In CutMix its share is what the square leaves of it, even if
      that is little.
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
        """Return the augmented images and the targets of the loss.

        The arguments are not changed. The returned images keep type and memory format. The targets
        are `labels` themselves or, if images are mixed, the probabilities of the classes: (N, K),
        of the type of the images.

        Args:
            images: normalized, float (N, C, S, S).
            labels: int64 (N).
        """
        config = self.config
        if config.hflip or config.translate > 0:
            images = self._flip_and_translate(images)
        if config.random_erasing > 0:
            images = _fill_with_mean(images, _make_erasing_masks(images, config.random_erasing))
        if config.cutout > 0:
            images = _fill_with_mean(images, _make_square_masks(images, config.cutout))
        if config.mixup > 0:
            return self._mixup(images, labels)
        if config.cutmix > 0:
            return self._cutmix(images, labels)
        return images, labels

    def _flip_and_translate(self, images: torch.Tensor) -> torch.Tensor:
        count, _, size, _ = images.shape
        pixels = torch.arange(size, device=images.device)
        limit = self.config.translate
        down, right = torch.randint(-limit, limit + 1, (2, count, 1), device=images.device).unbind()
        rows, columns = pixels - down, pixels - right  # the sources of each row and column: (N, S)
        black = _is_outside(rows, size)[:, :, None] | _is_outside(columns, size)[:, None, :]
        if self.config.hflip:
            flipped = torch.rand(count, 1, device=images.device) < 0.5
            columns = torch.where(flipped, size - 1 - columns, columns)
        batch = torch.arange(count, device=images.device)
        rows, columns = rows.clamp(0, size - 1), columns.clamp(0, size - 1)
        # Indexed dimensions come first: (N, S, S, C)
        moved = images[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        # A new tensor would have the memory format of the indexing, so copy into one like `images`.
        moved = torch.empty_like(images).copy_(moved.permute(0, 3, 1, 2))
        # The first of the two tensors decides the memory format.
        return torch.where(black[:, None].logical_not(), moved, self.black)

    def _mixup(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Blend each image with the one before it (Zhang et al. 2018)."""
        share = _draw_symmetric_beta(self.config.mixup, images)
        share = torch.minimum(share, 1 - share)  # the share of the other image
        mixed = images.lerp(images.roll(1, 0), share.to(images.dtype)[:, None, None, None])
        return mixed, self._mix_targets(labels, share.to(images.dtype))

    def _cutmix(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Replace a square of each image by that of the image before it (Yun et al. 2019)."""
        share = _draw_symmetric_beta(self.config.cutmix, images)
        squares = _make_square_masks(images, (images.shape[-1] * share.sqrt()).long())
        # The first of the two tensors decides the memory format.
        mixed = torch.where(squares.logical_not(), images, images.roll(1, 0))
        return mixed, self._mix_targets(labels, squares.to(images.dtype).mean(dim=(1, 2, 3)))

    def _mix_targets(self, labels: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Return targets (N, K) in which the label of the image before has `share` (N)."""
        # functional.one_hot would read the labels on the host.
        classes = torch.arange(self.num_classes, device=labels.device)
        one_hot = (labels[:, None] == classes).to(share.dtype)
        return one_hot.lerp(one_hot.roll(1, 0), share[:, None])


def _is_outside(positions: torch.Tensor, size: int) -> torch.Tensor:
    return (positions < 0) | (positions >= size)


def _fill_with_mean(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return images.clone().masked_fill_(masks, 0)  # in place, to keep the memory format


def _make_box_masks(
    size: int,
    top: torch.Tensor,
    left: torch.Tensor,
    height: torch.Tensor | int,
    width: torch.Tensor | int,
) -> torch.Tensor:
    """Return masks bool (N, 1, S, S), true in one box per image, clipped to the image."""
    pixels = torch.arange(size, device=top.device)
    rows = (pixels >= top[:, None]) & (pixels < (top + height)[:, None])
    columns = (pixels >= left[:, None]) & (pixels < (left + width)[:, None])
    return rows[:, None, :, None] & columns[:, None, None, :]


def _make_square_masks(images: torch.Tensor, sides: torch.Tensor | int) -> torch.Tensor:
    """Return masks (N, 1, S, S) of squares around random pixels (DeVries and Taylor 2017).

    Squares may lie partly outside the image.
    """
    size = images.shape[-1]
    down, right = torch.randint(size, (2, len(images)), device=images.device).unbind()
    return _make_box_masks(size, down - sides // 2, right - sides // 2, sides, sides)


def _make_erasing_masks(images: torch.Tensor, probability: float) -> torch.Tensor:
    """Return masks (N, 1, S, S) of random rectangles (Zhong et al. 2020, algorithm 1).

    A mask has a rectangle with `probability` and is empty otherwise.
    """
    size = images.shape[-1]
    area, aspect, down, right, chance = torch.rand(5, len(images), device=images.device).unbind()
    area = size * size * (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area)
    aspect = ERASED_ASPECT[0] + (ERASED_ASPECT[1] - ERASED_ASPECT[0]) * aspect
    height = (area * aspect).sqrt().round().clamp(1, size)
    width = (area / aspect).sqrt().round().clamp(1, size)
    top, left = (down * (size - height + 1)).floor(), (right * (size - width + 1)).floor()
    return (
        _make_box_masks(size, top, left, height, width)
        & (chance < probability)[:, None, None, None]
    )


def _draw_symmetric_beta(alpha: float, images: torch.Tensor) -> torch.Tensor:
    """Draw float32 (N) from Beta(alpha, alpha), by Devroye 1996 ("in one line of code").

    The method transforms a Student's t drawn by Bailey's polar method. It rejects nothing, so it
    takes a fixed number of operations. torch.distributions.Beta needs a gamma sampler, which some
    devices lack.
    """
    radius, angle = torch.rand(2, len(images), device=images.device).unbind()
    power = radius ** (1 / alpha)
    cosine = torch.cos(2 * math.pi * angle)
    return (1 + cosine * ((1 - power) / (power + (1 - power) * cosine.square())).sqrt()) / 2
