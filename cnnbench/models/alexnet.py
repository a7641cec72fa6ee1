"""AlexNet.

Paper: Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
Networks, 2012, section 3.5. The form is that of Dive into Deep Learning, first edition, section
7.1. Later editions pad the first convolution by 1, which gives the same maps at 224 pixels.

**Deviations** from the paper, as in the book:

- One tower replaces the two halves on two GPUs: the second, fourth and fifth convolution see all
  maps.
- There is no local response normalization.
- The first convolution has no padding: its maps are 54 x 54, in the paper 55 x 55.

The option `width`, which scales the channels of the convolutions, goes beyond both.
"""

import math
from typing import Literal

import torch
from torch import nn

__all__ = ["AlexNet"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]

CHANNELS = (96, 256, 384, 384, 256)


class AlexNet(nn.Module):
    """Five convolutions with ReLU and overlapping max pooling, three linear layers with dropout."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 224,
        width: float = 1.0,
        dropout: float = 0.5,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        if not 0 < width < math.inf:
            raise ValueError(f"width={width} must be finite and above 0; 1 is the paper's.")
        c1, c2, c3, c4, c5 = (max(1, round(channels * width)) for channels in CHANNELS)
        side = (image_size - 11) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        self.features = nn.Sequential(  # (N, 1, 224, 224)
            nn.Conv2d(in_channels, c1, 11, stride=4),  # (N, 96, 54, 54)
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 96, 26, 26)
            nn.Conv2d(c1, c2, 5, padding=2, padding_mode=padding_mode),  # (N, 256, 26, 26)
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 256, 12, 12)
            nn.Conv2d(c2, c3, 3, padding=1, padding_mode=padding_mode),  # (N, 384, 12, 12)
            nn.ReLU(),
            nn.Conv2d(c3, c4, 3, padding=1, padding_mode=padding_mode),  # (N, 384, 12, 12)
            nn.ReLU(),
            nn.Conv2d(c4, c5, 3, padding=1, padding_mode=padding_mode),  # (N, 256, 12, 12)
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 256, 5, 5)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 6400)
            nn.Linear(c5 * side * side, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits
