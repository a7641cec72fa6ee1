"""The small network with residual blocks of the course notes.

Paper of the block: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2015, figure
2.

**Deviations**: none from the notes. From the paper: the block has no normalization.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["ResidualNet"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class ResidualNet(nn.Module):
    """Two 5x5 convolutions, each followed by a residual block, and one linear layer."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        self.layers = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(in_channels, 16, kernel_size=5),  # (N, 16, 24, 24)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 16, 12, 12)
            ResidualBlock(16, padding_mode),  # (N, 16, 12, 12)
            nn.Conv2d(16, 32, kernel_size=5),  # (N, 32, 8, 8)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 32, 4, 4)
            ResidualBlock(32, padding_mode),  # (N, 32, 4, 4)
            nn.Flatten(),  # (N, 512)
            nn.Linear(32 * side * side, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


class ResidualBlock(nn.Module):
    """ReLU(x + F(x)), where F is two 3x3 convolutions with ReLU between them.

    (N, C, S, S) to (N, C, S, S).
    """

    def __init__(self, channels: int, padding_mode: PaddingMode) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, padding_mode=padding_mode),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, padding_mode=padding_mode),
        )
        self.relu = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(maps + self.residual(maps))
        return out
