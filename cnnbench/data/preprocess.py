"""From uint8 pixels to the network's input, on whatever device the pixels are."""

from collections.abc import Sequence

import torch
from torch.nn import functional

__all__ = ["Preprocess", "per_channel"]


class Preprocess:
    """uint8 images (N, C, H, W) to normalized images (N, C, size, size) of the type `dtype`.

    Resizing is bilinear with antialiasing and keeps fractions, so it equals torchvision's Resize on
    uint8 images but for that one's last rounding to whole numbers.
    """

    def __init__(
        self,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`mean` and `std` of pixels in [0, 1], one for each channel; images come on `device`."""
        self.size = size
        self.mean = mean
        self.std = std
        self.dtype = dtype
        self._shift = per_channel([255 * each for each in mean], device)
        self._scale = per_channel([1 / (255 * each) for each in std], device)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        values = images.to(self.dtype)
        if images.shape[-2:] != (self.size, self.size):
            size = (self.size, self.size)
            values = functional.interpolate(values, size, mode="bilinear", antialias=True)
        return values.sub_(self._shift).mul_(self._scale)


def per_channel(values: Sequence[float], device: torch.device | None) -> float | torch.Tensor:
    """Return values to calculate with images (N, C, H, W); one alone stays a number: quicker."""
    return values[0] if len(values) == 1 else torch.tensor(values, device=device).view(-1, 1, 1)
