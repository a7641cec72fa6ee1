"""LeNet.

Paper: LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition,
1998, figure 2. The form is that of Dive into Deep Learning, section 7.6.

**Deviations** from the paper, as in the book:

- Each map of the second convolution sees all maps of the first.
- Sigmoid replaces a scaled tanh.
- Pooling has no weights, and no activation follows it.
- A linear layer of logits replaces the Gaussian connections.
- The first convolution is padded by 2: images of 28 pixels give the maps that the paper has for 32.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

__all__ = ["LeNet", "LeNetReLU"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class MinPool2d(nn.MaxPool2d):
    """Pooling by the smallest value of each window."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return -functional.max_pool2d(-maps, self.kernel_size, self.stride)


ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
POOLINGS = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d, "min": MinPool2d}


class LeNet(nn.Module):
    """Two sigmoid convolutions with average pooling, three linear layers."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        activation: Literal["sigmoid", "tanh", "relu"] = "sigmoid",
        pooling: Literal["avg", "max", "min"] = "avg",
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        act, pool = ACTIVATIONS[activation], POOLINGS[pooling]
        side = (image_size // 2 - 4) // 2
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(in_channels, 6, 5, padding=2, padding_mode=padding_mode),  # (N, 6, 28, 28)
            act(),
            pool(kernel_size=2),  # (N, 6, 14, 14)
            nn.Conv2d(6, 16, 5),  # (N, 16, 10, 10)
            act(),
            pool(kernel_size=2),  # (N, 16, 5, 5)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 400)
            nn.Linear(16 * side * side, 120),
            act(),
            nn.Linear(120, 84),
            act(),
            nn.Linear(84, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


class LeNetReLU(nn.Module):
    """The improved LeNet of the course notes, with ReLU and max pooling.

    `second_maps` is the number of maps of the second convolution.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        second_maps: int = 10,
    ) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(in_channels, 6, 5),  # (N, 6, 24, 24)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 6, 12, 12)
            nn.Conv2d(6, second_maps, 5),  # (N, 10, 8, 8)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 10, 4, 4)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 160)
            nn.Linear(second_maps * side * side, 120),
            nn.Sigmoid(),
            nn.Linear(120, 84),
            nn.Sigmoid(),
            nn.Linear(84, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits
