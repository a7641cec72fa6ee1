"""From uint8 pixels to the network's input, on whatever device the pixels are."""

import torch
from torch.nn import functional

__all__ = ["Preprocess"]


class Preprocess:
    """uint8 images (N, C, H, W) to normalised float32 images (N, C, size, size).

    Resizing is bilinear with antialiasing and keeps fractions, so it equals torchvision's Resize on
    uint8 images but for that one's last rounding to whole numbers.
    """

    def __init__(self, size: int, mean: float, std: float) -> None:
        self.size = size
        self.mean = mean
        self.std = std

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        values = images.float()
        if images.shape[-2:] != (self.size, self.size):
            values = functional.interpolate(values, (self.size, self.size), mode="bilinear", antialias=True)
        return values.sub_(255 * self.mean).mul_(1 / (255 * self.std))
