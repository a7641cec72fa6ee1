"""VGG.

Paper: Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
2015, table 1, configurations A, B, D and E. Book: Dive into Deep Learning, section 8.2.

**Deviations**: none by default. Two options go beyond the paper:

- `batch_norm` adds batch normalization, which is younger, after each convolution.
- `width` scales the channels of the convolutions. The book trains `width=0.25`.
"""

import math
from typing import Literal

import torch
from torch import nn

__all__ = ["VGG"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {  # the convolutions of each block, by depth
    11: (1, 1, 2, 2, 2),  # A
    13: (2, 2, 2, 2, 2),  # B
    16: (2, 2, 3, 3, 3),  # D
    19: (2, 2, 4, 4, 4),  # E
}


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions, each halving the map, and three linear layers."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 224,
        depth: int = 11,
        width: float = 1.0,
        batch_norm: bool = False,
        dropout: float = 0.5,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        if depth not in CONVOLUTIONS:
            allowed = ", ".join(map(str, CONVOLUTIONS))
            raise ValueError(f"depth={depth} is not in the paper. Allowed: {allowed}.")
        if not 0 < width < math.inf:
            raise ValueError(
                f"width={width} must be finite and above 0; 1 is the paper's, 0.25 the book's."
            )
        blocks: list[nn.Module] = []
        for convolutions, channels in zip(CONVOLUTIONS[depth], CHANNELS, strict=True):
            out_channels = max(1, round(channels * width))
            block = vgg_block(convolutions, in_channels, out_channels, batch_norm, padding_mode)
            blocks.append(block)
            in_channels = out_channels
        side = image_size // 32
        # From (N, 1, 224, 224): (N, 64, 112, 112), (N, 128, 56, 56), (N, 256, 28, 28),
        # (N, 512, 14, 14), (N, 512, 7, 7).
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 25088)
            nn.Linear(in_channels * side * side, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


def vgg_block(
    convolutions: int,
    in_channels: int,
    out_channels: int,
    batch_norm: bool,
    padding_mode: PaddingMode,
) -> nn.Sequential:
    """Return convolutions and a pooling: (N, in_channels, S, S) to (N, out_channels, S/2, S/2)."""
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode=padding_mode)
        layers.append(conv)
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU())
        in_channels = out_channels
    return nn.Sequential(*layers, nn.MaxPool2d(2))
