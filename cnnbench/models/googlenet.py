"""GoogLeNet.

Paper: Szegedy et al., Going Deeper with Convolutions, 2015, table 1. The form is that of Dive into
Deep Learning, section 8.4. `auxiliary=true` adds the two auxiliary classifiers of figure 3. The 5x5
convolutions are 5x5 convolutions, as in the paper: torchvision has 3x3 convolutions instead, and
batch normalization everywhere.

**Deviations** from the paper, as in the book:

- There is no local response normalization.
- There is no dropout before the last layer.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["GoogLeNet"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class GoogLeNet(nn.Module):
    """A stem, nine Inception blocks, global average pooling, one linear layer.

    With `auxiliary`, two classifiers read the maps of blocks 4a and 4d during training.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 96,
        auxiliary: bool = False,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()

        def inception(
            in_channels: int,
            out_1x1: int,
            via_3x3: tuple[int, int],
            via_5x5: tuple[int, int],
            out_pool: int,
        ) -> Inception:
            return Inception(in_channels, out_1x1, via_3x3, via_5x5, out_pool, padding_mode)

        def conv(
            in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
        ) -> nn.Conv2d:
            padding = kernel_size // 2  # keeps the sides, or halves them with stride 2
            return nn.Conv2d(
                in_channels, out_channels, kernel_size, stride, padding, padding_mode=padding_mode
            )

        self.stem = nn.Sequential(  # (N, 1, 96, 96)
            conv(in_channels, 64, 7, stride=2),  # (N, 64, 48, 48)
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),  # (N, 64, 24, 24)
            conv(64, 64, 1),
            nn.ReLU(),
            conv(64, 192, 3),  # (N, 192, 24, 24)
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),  # (N, 192, 12, 12)
        )
        self.inception_3a = inception(192, 64, (96, 128), (16, 32), 32)  # (N, 256, 12, 12)
        self.inception_3b = inception(256, 128, (128, 192), (32, 96), 64)  # (N, 480, 12, 12)
        self.pool_3 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)  # (N, 480, 6, 6)
        self.inception_4a = inception(480, 192, (96, 208), (16, 48), 64)  # (N, 512, 6, 6)
        self.inception_4b = inception(512, 160, (112, 224), (24, 64), 64)  # (N, 512, 6, 6)
        self.inception_4c = inception(512, 128, (128, 256), (24, 64), 64)  # (N, 512, 6, 6)
        self.inception_4d = inception(512, 112, (144, 288), (32, 64), 64)  # (N, 528, 6, 6)
        self.inception_4e = inception(528, 256, (160, 320), (32, 128), 128)  # (N, 832, 6, 6)
        self.pool_4 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)  # (N, 832, 3, 3)
        self.inception_5a = inception(832, 256, (160, 320), (32, 128), 128)  # (N, 832, 3, 3)
        self.inception_5b = inception(832, 384, (192, 384), (48, 128), 128)  # (N, 1024, 3, 3)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # (N, 1024, 1, 1)
            nn.Flatten(),
            nn.Linear(1024, num_classes),
        )
        if auxiliary:
            self.auxiliary_4a = auxiliary_classifier(512, num_classes, image_size)
            self.auxiliary_4d = auxiliary_classifier(528, num_classes, image_size)
        self.auxiliary = auxiliary

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return logits (N, K); in training with `auxiliary`, also those of both classifiers."""
        maps = self.pool_3(self.inception_3b(self.inception_3a(self.stem(images))))
        maps_4a = self.inception_4a(maps)
        maps_4d = self.inception_4d(self.inception_4c(self.inception_4b(maps_4a)))
        maps = self.pool_4(self.inception_4e(maps_4d))
        logits: torch.Tensor = self.classifier(self.inception_5b(self.inception_5a(maps)))
        if self.auxiliary and self.training:
            return logits, self.auxiliary_4a(maps_4a), self.auxiliary_4d(maps_4d)
        return logits


class Inception(nn.Module):
    """Four concatenated branches (figure 2b): (N, C, S, S) to (N, C', S, S).

    `via_3x3` holds the channels after the 1x1 and after the 3x3 convolution of that branch, and
    `via_5x5` those after the 1x1 and after the 5x5 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_1x1: int,
        via_3x3: tuple[int, int],
        via_5x5: tuple[int, int],
        out_pool: int,
        padding_mode: PaddingMode,
    ) -> None:
        super().__init__()
        self.branch_1x1 = nn.Sequential(nn.Conv2d(in_channels, out_1x1, kernel_size=1), nn.ReLU())
        self.branch_3x3 = nn.Sequential(
            nn.Conv2d(in_channels, via_3x3[0], kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(*via_3x3, kernel_size=3, padding=1, padding_mode=padding_mode),
            nn.ReLU(),
        )
        self.branch_5x5 = nn.Sequential(
            nn.Conv2d(in_channels, via_5x5[0], kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(*via_5x5, kernel_size=5, padding=2, padding_mode=padding_mode),
            nn.ReLU(),
        )
        self.branch_pool = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1),
            nn.Conv2d(in_channels, out_pool, kernel_size=1),
            nn.ReLU(),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        branches = (self.branch_1x1, self.branch_3x3, self.branch_5x5, self.branch_pool)
        return torch.cat([branch(maps) for branch in branches], dim=1)


def auxiliary_classifier(in_channels: int, num_classes: int, image_size: int) -> nn.Sequential:
    """Return the classifier of section 5 on stage 4: (N, in_channels, S, S) to (N, num_classes).

    Raises:
        ValueError: the images are too small.
    """
    side = (image_size + 15) // 16  # stage 4 follows four halvings, each rounded up
    if side < 5:
        raise ValueError(
            "auxiliary=true pools 5 x 5 pixels of stage 4, "
            f"which has {side} x {side} for images of {image_size} pixels. "
            "The smallest size for it is data.resize=65."
        )
    pooled = (side - 5) // 3 + 1
    return nn.Sequential(
        nn.AvgPool2d(kernel_size=5, stride=3),
        nn.Conv2d(in_channels, 128, kernel_size=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128 * pooled * pooled, 1024),
        nn.ReLU(),
        nn.Dropout(0.7),
        nn.Linear(1024, num_classes),
    )
