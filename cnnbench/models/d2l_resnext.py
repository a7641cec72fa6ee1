"""ResNeXt and RegNetX with the blocks of Dive into Deep Learning, sections 8.6.5 and 8.8.

Papers:

- `D2LResNeXt`: Xie, Girshick, Dollar, Tu, He, Aggregated Residual Transformations for Deep Neural
  Networks, 2017, table 1, ResNeXt-50 (32x4d). The book has only the block. The network around it is
  the paper's.
- `D2LRegNetX`: Radosavovic, Kosaraju, Girshick, He, Dollar, Designing Network Design Spaces, 2020.
  The form is the book's small one of two stages, RegNetX-32.

**Deviations** from the papers, as in the book: the convolutions have biases, although batch
normalization follows.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["D2LRegNetX", "D2LResNeXt"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class D2LResNeXt(nn.Module):
    """A 7x7 stem, stages of 3, 4, 6 and 3 blocks, global average pooling, one linear layer."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 224,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()

        def stage(blocks: int, in_channels: int, channels: int, stride: int = 2) -> nn.Sequential:
            return resnext_stage(
                blocks, in_channels, channels, channels // 2, 32, stride, padding_mode
            )

        self.stem = nn.Sequential(  # (N, 1, 224, 224)
            nn.Conv2d(
                in_channels, 64, kernel_size=7, stride=2, padding=3, padding_mode=padding_mode
            ),
            nn.BatchNorm2d(64),
            nn.ReLU(),  # (N, 64, 112, 112)
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),  # (N, 64, 56, 56)
        )
        self.stages = nn.Sequential(
            stage(3, 64, 256, stride=1),  # (N, 256, 56, 56)
            stage(4, 256, 512),  # (N, 512, 28, 28)
            stage(6, 512, 1024),  # (N, 1024, 14, 14)
            stage(3, 1024, 2048),  # (N, 2048, 7, 7)
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # (N, 2048, 1, 1)
            nn.Flatten(),
            nn.Linear(2048, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.stages(self.stem(images)))
        return logits


class D2LRegNetX(nn.Module):
    """A 3x3 stem, stages of 4 and 6 blocks, global average pooling, one linear layer.

    The groups of a block have 16 channels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 96,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()

        def stage(blocks: int, in_channels: int, channels: int) -> nn.Sequential:
            return resnext_stage(
                blocks, in_channels, channels, channels, channels // 16, 2, padding_mode
            )

        self.stem = nn.Sequential(  # (N, 1, 96, 96)
            nn.Conv2d(
                in_channels, 32, kernel_size=3, stride=2, padding=1, padding_mode=padding_mode
            ),
            nn.BatchNorm2d(32),
            nn.ReLU(),  # (N, 32, 48, 48)
        )
        self.stages = nn.Sequential(
            stage(4, 32, 32),  # (N, 32, 24, 24)
            stage(6, 32, 80),  # (N, 80, 12, 12)
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # (N, 80, 1, 1)
            nn.Flatten(),
            nn.Linear(80, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.stages(self.stem(images)))
        return logits


class ResNeXtBlock(nn.Module):
    """ReLU(shortcut(x) + F(x)), where F is a bottleneck with a grouped 3x3 convolution.

    (N, in_channels, S, S) to (N, channels, S/stride, S/stride). The grouped convolution has `width`
    channels.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        width: int,
        groups: int,
        stride: int,
        padding_mode: PaddingMode,
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, width, kernel_size=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, padding_mode=padding_mode),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, kernel_size=1),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))
        self.relu = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(self.residual(maps) + self.shortcut(maps))
        return out


def resnext_stage(
    blocks: int,
    in_channels: int,
    channels: int,
    width: int,
    groups: int,
    stride: int,
    padding_mode: PaddingMode,
) -> nn.Sequential:
    """Return `blocks` blocks in a row, of which the first has the stride."""
    first = ResNeXtBlock(in_channels, channels, width, groups, stride, padding_mode)
    rest = (
        ResNeXtBlock(channels, channels, width, groups, 1, padding_mode) for _ in range(1, blocks)
    )
    return nn.Sequential(first, *rest)
