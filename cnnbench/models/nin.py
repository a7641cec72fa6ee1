"""Network in Network.

Paper: Lin, Chen, Yan, Network In Network, 2014, section 3. The form is that of Dive into Deep
Learning, section 8.3, with the shapes of AlexNet.

**Deviations** from the paper, as in the book:

- There are four blocks, in the paper three.
- Dropout precedes only the last block.

As in the book, a ReLU follows the last 1x1 convolution. No logit is below zero, and a
class with dead maps gets no gradient: some runs never predict some classes again.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["NiN"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class NiN(nn.Module):
    """Four convolutions, each followed by two 1x1 convolutions; no linear layer.

    The 1x1 convolutions are a perceptron at every pixel.
    """

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
            nin_block(in_channels, 96, 11, stride=4, padding=0),  # (N, 96, 54, 54)
            nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 96, 26, 26)
            nin_block(96, 256, 5, padding=2, padding_mode=padding_mode),  # (N, 256, 26, 26)
            nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 256, 12, 12)
            nin_block(256, 384, 3, padding=1, padding_mode=padding_mode),  # (N, 384, 12, 12)
            nn.MaxPool2d(kernel_size=3, stride=2),  # (N, 384, 5, 5)
            nn.Dropout(dropout),
        )
        self.classifier = nn.Sequential(
            nin_block(384, num_classes, 3, padding=1, padding_mode=padding_mode),  # (N, 10, 5, 5)
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
    """Return a convolution and two 1x1: (N, in_channels, S, S) to (N, out_channels, S', S')."""
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
