"""LeNet with batch normalization.

Paper: Ioffe, Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift, 2015. The form is that of Dive into Deep Learning, first edition, section 7.5
(later editions: 8.5).

**Deviations**: none from the book. Unlike the book's LeNet, its LeNet with batch normalization does
not pad the first convolution.
"""

import torch
from torch import nn

__all__ = ["BNLeNet"]


class BNLeNet(nn.Module):
    """LeNet with batch normalization before each sigmoid."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(in_channels, 6, kernel_size=5),  # (N, 6, 24, 24)
            nn.BatchNorm2d(6),
            nn.Sigmoid(),
            nn.AvgPool2d(2),  # (N, 6, 12, 12)
            nn.Conv2d(6, 16, kernel_size=5),  # (N, 16, 8, 8)
            nn.BatchNorm2d(16),
            nn.Sigmoid(),
            nn.AvgPool2d(2),  # (N, 16, 4, 4)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 256)
            nn.Linear(16 * side * side, 120),
            nn.BatchNorm1d(120),
            nn.Sigmoid(),
            nn.Linear(120, 84),
            nn.BatchNorm1d(84),
            nn.Sigmoid(),
            nn.Linear(84, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits
