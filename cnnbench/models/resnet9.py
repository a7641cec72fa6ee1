"""ResNet-9, a network that trains in seconds.

Source: David Page, How to Train Your ResNet, myrtle.ai, 2018 and 2019, and `dawn.py` in
davidcpage/cifar10-fast. This is the network of part 4, which trained to 94 % on CIFAR-10 in 79
seconds, and of the later parts.

**Deviations**: none at 32 pixels. At other sizes the last pooling takes the whole map, as the 4x4
pooling does at 32 pixels. The changes of part 8 are left out: CELU for ReLU, ghost batch
normalization, its scale fixed at 1/4, and a first convolution that whitens patches.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["ResNet9"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class ResNet9(nn.Module):
    """Eight 3x3 convolutions, of which two pairs are residual, and one linear layer without bias.

    `width` is the number of channels of the first convolution. `scale` multiplies the logits: a
    value below 1 keeps the softmax soft while the weights grow.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 32,
        width: int = 64,
        scale: float = 0.125,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width} must be at least 1; 64 is the source's.")
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale={scale} must be finite and above 0; 0.125 is the source's.")

        def conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(
                    in_channels, out_channels, 3, padding=1, bias=False, padding_mode=padding_mode
                ),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            )

        def residual(channels: int) -> Residual:
            return Residual(conv_bn_relu(channels, channels), conv_bn_relu(channels, channels))

        self.prep = conv_bn_relu(in_channels, width)  # (N, 64, 32, 32)
        self.layer1 = nn.Sequential(
            conv_bn_relu(width, 2 * width),  # (N, 128, 32, 32)
            nn.MaxPool2d(2),  # (N, 128, 16, 16)
            residual(2 * width),
        )
        self.layer2 = nn.Sequential(
            conv_bn_relu(2 * width, 4 * width),  # (N, 256, 16, 16)
            nn.MaxPool2d(2),  # (N, 256, 8, 8)
        )
        self.layer3 = nn.Sequential(
            conv_bn_relu(4 * width, 8 * width),  # (N, 512, 8, 8)
            nn.MaxPool2d(2),  # (N, 512, 4, 4)
            residual(8 * width),
        )
        self.classifier = nn.Sequential(
            nn.MaxPool2d(image_size // 8),  # (N, 512, 1, 1)
            nn.Flatten(),
            nn.Linear(8 * width, num_classes, bias=False),
        )
        self.scale = scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.layer3(self.layer2(self.layer1(self.prep(images))))
        logits: torch.Tensor = self.classifier(maps)
        return self.scale * logits


class Residual(nn.Module):
    """x + F(x), where F ends in ReLU: (N, C, S, S) to (N, C, S, S)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.residual = nn.Sequential(*layers)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = maps + self.residual(maps)
        return out
