"""Network in Network.

Lin, Chen, Yan: Network In Network, 2014, section 3; in the form of Dive into Deep Learning, section 8.3,
whose shapes are AlexNet's.

Deviations from the paper, as in the book: four blocks where the paper has three, and dropout before the
last alone. (As there, a ReLU follows the very last 1x1 convolution, so no logit is below zero, and a class
whose maps die gets no gradient: some runs lose classes for good.)
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["NiN"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class NiN(nn.Module):
    """Convolutions each followed by two of 1x1, a perceptron at every pixel; no linear layers at all."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 224,
        dropout: float = 0.5,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(  # (N, 1, 224, 224)
            nin_block(in_channels, 96, kernel_size=11, stride=4, padding=0),  # (N, 96, 54, 54)
            nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 96, 26, 26)
            nin_block(
                96, 256, kernel_size=5, padding=2, padding_mode=padding_mode
            ),  # (N, 256, 26, 26)
            nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 256, 12, 12)
            nin_block(
                256, 384, kernel_size=3, padding=1, padding_mode=padding_mode
            ),  # (N, 384, 12, 12)
            nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 384, 5, 5)
            nn.Dropout(dropout),
        )
        self.classifier = nn.Sequential(
            nin_block(
                384, num_classes, kernel_size=3, padding=1, padding_mode=padding_mode
            ),  # (N, 10, 5, 5)
            nn.AdaptiveAvgPool2d(1),  # (N, 10, 1, 1)
            nn.Flatten(),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


def nin_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    padding: int,
    stride: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> nn.Sequential:
    """(N, in_channels, S, S) to (N, out_channels, S', S')."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, padding_mode=padding_mode
        ),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1),
        nn.ReLU(),
    )
