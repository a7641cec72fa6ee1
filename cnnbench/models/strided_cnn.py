"""A small all-convolutional network: strided convolutions in place of pooling.

Paper: Springenberg, Dosovitskiy, Brox, Riedmiller, Striving for Simplicity: The All Convolutional
Net, 2015, table 2, Strided-CNN-C: without pooling, the convolution before it has stride 2.

**Deviations**:

- Four convolutions with 32 to 128 maps, not five with 96 and 192. Those of 1x1 are left out.
- The first convolution has stride 2 as well, for speed.
- Batch normalization precedes each ReLU, and there is no dropout.
- A linear layer sees all pixels of the last maps. In the paper a 1x1 convolution makes a map for
  each class, and the logits are the means of these maps.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

__all__ = ["StridedCNN"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class StridedCNN(nn.Module):
    """3x3 convolutions and one linear layer.

    `channels` and `strides` hold the maps and the stride of each convolution.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        channels: Sequence[int] = (32, 64, 64, 128),
        strides: Sequence[int] = (2, 2, 1, 2),
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(f"channels={list(channels)} must be numbers of at least 1.")
        if len(strides) != len(channels) or min(strides) < 1:
            raise ValueError(
                f"strides={list(strides)} must be numbers of at least 1, one for each of "
                f"channels={list(channels)}."
            )
        layers: list[nn.Module] = []
        side = image_size
        # (N, 32, 14, 14), (N, 64, 7, 7), (N, 64, 7, 7), (N, 128, 4, 4)
        for width, stride in zip(channels, strides, strict=True):
            layers += [
                nn.Conv2d(
                    in_channels, width, 3, stride, padding=1, bias=False, padding_mode=padding_mode
                ),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            in_channels = width
            side = (side - 1) // stride + 1
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 2048)
            nn.Linear(in_channels * side * side, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits
