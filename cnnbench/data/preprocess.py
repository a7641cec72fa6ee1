"""Preprocessing of uint8 pixels to the network's input, on the device of the pixels."""

from collections.abc import Sequence

import torch
from torch.nn import functional

__all__ = ["Preprocess", "per_channel"]


class Preprocess:
    """Resizes and normalizes uint8 images (N, C, H, W) to (N, C, size, size) of type `dtype`.

    Resizing is bilinear with antialiasing and keeps fractions. So it equals torchvision's Resize on
    uint8 images, except that torchvision rounds the result to integers.
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Set up for images on `device`; `mean` and `std` are those of each channel in [0, 1]."""
        self.size = size
        self.mean = mean
        self.std = std
        self.dtype = dtype
        self._shift = per_channel([255 * value for value in mean], device)
        self._scale = per_channel([1 / (255 * value) for value in std], device)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the resized and normalized images; the argument is not changed."""
        values = images.to(self.dtype)
        if images.shape[-2:] != (self.size, self.size):
            size = (self.size, self.size)
            values = functional.interpolate(values, size, mode="bilinear", antialias=True)
        return values.sub_(self._shift).mul_(self._scale)


def per_channel(values: Sequence[float], device: torch.device | None) -> float | torch.Tensor:
    """Return one value per channel in a shape that broadcasts over images (N, C, H, W).

    A single value stays a number, which is faster.
    """
    return values[0] if len(values) == 1 else torch.tensor(values, device=device).view(-1, 1, 1)
