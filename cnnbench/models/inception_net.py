"""The small network with Inception blocks of the course notes.

Paper of the block: Szegedy et al., Going Deeper with Convolutions, 2015, figure 2b.

**Deviations**: none from the notes by default. From the paper:

- The block has two 3x3 convolutions in a row.
- The block has average pooling.
- The block has no activations.

A bottleneck, a 1x1 convolution to 16 maps before the larger kernels, saves multiplications where it
gets many maps. Here it gets 10 and 20: without it, `bottleneck=False`, the first block needs fewer
multiplications and the second one more.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["InceptionNet"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class InceptionNet(nn.Module):
    """Two 5x5 convolutions, each followed by an Inception block, and one linear layer."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        bottleneck: bool = True,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        self.layers = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(in_channels, 10, kernel_size=5),  # (N, 10, 24, 24)
            nn.MaxPool2d(2),  # (N, 10, 12, 12)
            nn.ReLU(),
            Inception(10, bottleneck, padding_mode),  # (N, 88, 12, 12)
            nn.Conv2d(88, 20, kernel_size=5),  # (N, 20, 8, 8)
            nn.MaxPool2d(2),  # (N, 20, 4, 4)
            nn.ReLU(),
            Inception(20, bottleneck, padding_mode),  # (N, 88, 4, 4)
            nn.Flatten(),  # (N, 1408)
            nn.Linear(88 * side * side, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


class Inception(nn.Module):
    """Four concatenated branches of 16, 24, 24 and 24 maps: (N, C, S, S) to (N, 88, S, S)."""

    def __init__(self, in_channels: int, bottleneck: bool, padding_mode: PaddingMode) -> None:
        super().__init__()
        reduced = 16 if bottleneck else in_channels
        self.branch_1x1 = nn.Conv2d(in_channels, 16, kernel_size=1)
        self.branch_5x5 = nn.Sequential(
            nn.Conv2d(in_channels, 16, kernel_size=1) if bottleneck else nn.Identity(),
            nn.Conv2d(reduced, 24, kernel_size=5, padding=2, padding_mode=padding_mode),
        )
        self.branch_3x3 = nn.Sequential(
            nn.Conv2d(in_channels, 16, kernel_size=1) if bottleneck else nn.Identity(),
            nn.Conv2d(reduced, 24, kernel_size=3, padding=1, padding_mode=padding_mode),
            nn.Conv2d(24, 24, kernel_size=3, padding=1, padding_mode=padding_mode),
        )
        self.branch_pool = nn.Sequential(
            nn.AvgPool2d(kernel_size=3, stride=1, padding=1),
            nn.Conv2d(in_channels, 24, kernel_size=1),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        branches = (self.branch_1x1, self.branch_5x5, self.branch_3x3, self.branch_pool)
        return torch.cat([branch(maps) for branch in branches], dim=1)
