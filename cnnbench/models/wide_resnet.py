"""Wide ResNet, WRN-d-k: a shallow ResNet for CIFAR with k times the channels.

Paper: Zagoruyko, Komodakis, Wide Residual Networks, 2016, table 1, with blocks B(3, 3).

**Deviations**: none known. Details that the paper leaves open follow the authors' code
(szagoruyko/wide-residual-networks):

- When the channels grow, a 1x1 convolution projects the activated maps.
- The stride is in the first 3x3 convolution.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["WideResNet"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class WideResNet(nn.Module):
    """One convolution, three stages of n blocks, one linear layer.

    The depth is the number of convolutions, 6n + 4, of which 3 are projections. `width` is k.
    `dropout` is the rate between the two convolutions of a block.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 32,
        depth: int = 28,
        width: int = 10,
        dropout: float = 0.0,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        n, rest = divmod(depth - 4, 6)
        if n < 1 or rest:
            below = 6 * max(n, 1) + 4
            raise ValueError(
                f"depth={depth} must be 6n + 4; the nearest are {below} and {below + 6}."
            )
        if width < 1:
            raise ValueError(
                f"width={width} must be at least 1, which is as wide as ResNet; "
                "the paper has 1 to 12."
            )

        def stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
            first = Block(in_channels, channels, stride, dropout, padding_mode)
            others = (Block(channels, channels, 1, dropout, padding_mode) for _ in range(1, n))
            return nn.Sequential(first, *others)

        self.stem = conv3x3(in_channels, 16, 1, padding_mode)  # (N, 16, 32, 32)
        self.stages = nn.Sequential(  # shapes of WRN-28-10
            stage(16, 16 * width, stride=1),  # (N, 160, 32, 32)
            stage(16 * width, 32 * width, stride=2),  # (N, 320, 16, 16)
            stage(32 * width, 64 * width, stride=2),  # (N, 640, 8, 8)
        )
        self.classifier = nn.Sequential(
            nn.BatchNorm2d(64 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),  # (N, 640, 1, 1)
            nn.Flatten(),
            nn.Linear(64 * width, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.stages(self.stem(images)))
        return logits


class Block(nn.Module):
    """The sum of a shortcut and two pre-activated convolutions.

    (N, C, S, S) to (N, channels, S/stride, S/stride).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        dropout: float,
        padding_mode: PaddingMode,
    ) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU())
        self.residual = nn.Sequential(
            conv3x3(in_channels, channels, stride, padding_mode),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            conv3x3(channels, channels, 1, padding_mode),
        )
        self.projects = in_channels != channels
        self.shortcut: nn.Module = nn.Identity()
        if self.projects:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        activated = self.activation(maps)
        shortcut = self.shortcut(activated if self.projects else maps)
        out: torch.Tensor = shortcut + self.residual(activated)
        return out


def conv3x3(
    in_channels: int, out_channels: int, stride: int, padding_mode: PaddingMode
) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, padding=1, bias=False, padding_mode=padding_mode
    )
