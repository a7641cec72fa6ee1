"""ResNet-18 in the form of Dive into Deep Learning, section 8.6.

Paper: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2015.

**Deviations** from the paper, as in the book:

- The convolutions have biases, although batch normalization follows.
- No batch normalization follows the 1x1 convolution of a shortcut.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["D2LResNet18"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class D2LResNet18(nn.Module):
    """A 7x7 stem, four stages of two residual blocks, global average pooling, one linear layer."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 96,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()

        def stage(in_channels: int, channels: int, stride: int = 2) -> nn.Sequential:
            return nn.Sequential(
                Residual(in_channels, channels, stride, padding_mode),
                Residual(channels, channels, 1, padding_mode),
            )

        self.stem = nn.Sequential(  # (N, 1, 96, 96)
            nn.Conv2d(
                in_channels, 64, kernel_size=7, stride=2, padding=3, padding_mode=padding_mode
            ),
            nn.BatchNorm2d(64),
            nn.ReLU(),  # (N, 64, 48, 48)
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),  # (N, 64, 24, 24)
        )
        self.stages = nn.Sequential(
            stage(64, 64, stride=1),  # (N, 64, 24, 24)
            stage(64, 128),  # (N, 128, 12, 12)
            stage(128, 256),  # (N, 256, 6, 6)
            stage(256, 512),  # (N, 512, 3, 3)
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # (N, 512, 1, 1)
            nn.Flatten(),
            nn.Linear(512, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.stages(self.stem(images)))
        return logits


class Residual(nn.Module):
    """ReLU(shortcut(x) + F(x)): (N, C, S, S) to (N, channels, S/stride, S/stride)."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, padding_mode: PaddingMode
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(
                in_channels,
                channels,
                kernel_size=3,
                stride=stride,
                padding=1,
                padding_mode=padding_mode,
            ),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, padding_mode=padding_mode),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(self.residual(maps) + self.shortcut(maps))
        return out
