"""DenseNet in the form of Dive into Deep Learning, section 8.7.

Paper: Huang, Liu, van der Maaten, Weinberger, Densely Connected Convolutional Networks, 2017.

**Deviations** from the paper, as in the book:

- Each of the four dense blocks has four layers, without bottlenecks.
- The convolutions have biases.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["D2LDenseNet"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]

LAYERS_PER_BLOCK, GROWTH_RATE = 4, 32


class D2LDenseNet(nn.Module):
    """A 7x7 stem, four dense blocks with transitions, global average pooling, one linear layer."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 96,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(  # (N, 1, 96, 96)
            nn.Conv2d(
                in_channels, 64, kernel_size=7, stride=2, padding=3, padding_mode=padding_mode
            ),
            nn.BatchNorm2d(64),
            nn.ReLU(),  # (N, 64, 48, 48)
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),  # (N, 64, 24, 24)
        )
        self.blocks = nn.Sequential(
            dense_block(64, padding_mode),  # (N, 192, 24, 24)
            transition(192),  # (N, 96, 12, 12)
            dense_block(96, padding_mode),  # (N, 224, 12, 12)
            transition(224),  # (N, 112, 6, 6)
            dense_block(112, padding_mode),  # (N, 240, 6, 6)
            transition(240),  # (N, 120, 3, 3)
            dense_block(120, padding_mode),  # (N, 248, 3, 3)
        )
        self.classifier = nn.Sequential(
            nn.BatchNorm2d(248),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),  # (N, 248, 1, 1)
            nn.Flatten(),
            nn.Linear(248, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.blocks(self.stem(images)))
        return logits


class DenseLayer(nn.Module):
    """A convolution whose 32 new maps follow its input: (N, C, S, S) to (N, C + 32, S, S)."""

    def __init__(self, in_channels: int, padding_mode: PaddingMode) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(
                in_channels, GROWTH_RATE, kernel_size=3, padding=1, padding_mode=padding_mode
            ),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps, self.layers(maps)], dim=1)


def dense_block(in_channels: int, padding_mode: PaddingMode) -> nn.Sequential:
    """Return a dense block: (N, C, S, S) to (N, C + 128, S, S)."""
    layers = []
    for _ in range(LAYERS_PER_BLOCK):
        layers.append(DenseLayer(in_channels, padding_mode))
        in_channels += GROWTH_RATE
    return nn.Sequential(*layers)


def transition(in_channels: int) -> nn.Sequential:
    """Return layers that halve channels and sides: (N, C, S, S) to (N, C/2, S/2, S/2)."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, in_channels // 2, kernel_size=1),
        nn.AvgPool2d(2),
    )
