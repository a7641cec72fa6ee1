"""The first convolutional networks of the course notes.

**Deviations**: none from the notes. As in the notes, `SimpleCNN` pools before ReLU and `ThreeConv`
after ReLU. With max pooling both orders give the same values.
"""

import torch
from torch import nn

__all__ = ["SimpleCNN", "ThreeConv"]


class SimpleCNN(nn.Module):
    """Two 5x5 convolutions and one linear layer."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        self.layers = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(in_channels, 10, kernel_size=5),  # (N, 10, 24, 24)
            nn.MaxPool2d(2),  # (N, 10, 12, 12)
            nn.ReLU(),
            nn.Conv2d(10, 20, kernel_size=5),  # (N, 20, 8, 8)
            nn.MaxPool2d(2),  # (N, 20, 4, 4)
            nn.ReLU(),
            nn.Flatten(),  # (N, 320)
            nn.Linear(20 * side * side, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


class ThreeConv(nn.Module):
    """Three convolutions of 5x5, 3x3 and 2x2 and one linear layer."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28) -> None:
        super().__init__()
        side = (((image_size - 4) // 2 - 2) // 2 - 1) // 2
        self.layers = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(in_channels, 10, kernel_size=5),  # (N, 10, 24, 24)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 10, 12, 12)
            nn.Conv2d(10, 20, kernel_size=3),  # (N, 20, 10, 10)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 20, 5, 5)
            nn.Conv2d(20, 30, kernel_size=2),  # (N, 30, 4, 4)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 30, 2, 2)
            nn.Flatten(),  # (N, 120)
            nn.Linear(30 * side * side, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits
