"""LeNet.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, 1998,
figure 2; in the form of Dive into Deep Learning, section 7.6.

Deviations from the paper, as in the book: every map of the second convolution sees every map of the
first; pooling has no weights; a linear layer of logits in place of the Gaussian connections. The first
convolution is padded by 2, so that 28 pixels serve as the paper's 32.
"""

import torch
from torch import nn

__all__ = ["LeNet", "LeNetReLU"]


class LeNet(nn.Module):
    """Two sigmoid convolutions with average pooling, three linear layers."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28) -> None:
        super().__init__()
        side = (image_size // 2 - 4) // 2
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(in_channels, 6, kernel_size=5, padding=2),  # (N, 6, 28, 28)
            nn.Sigmoid(),
            nn.AvgPool2d(2),  # (N, 6, 14, 14)
            nn.Conv2d(6, 16, kernel_size=5),  # (N, 16, 10, 10)
            nn.Sigmoid(),
            nn.AvgPool2d(2),  # (N, 16, 5, 5)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 400)
            nn.Linear(16 * side * side, 120),
            nn.Sigmoid(),
            nn.Linear(120, 84),
            nn.Sigmoid(),
            nn.Linear(84, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


class LeNetReLU(nn.Module):
    """The course notes' improved LeNet: ReLU and max pooling, and ten maps suffice in the second layer."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(in_channels, 6, kernel_size=5),  # (N, 6, 24, 24)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 6, 12, 12)
            nn.Conv2d(6, 10, kernel_size=5),  # (N, 10, 8, 8)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 10, 4, 4)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 160)
            nn.Linear(10 * side * side, 120),
            nn.Sigmoid(),
            nn.Linear(120, 84),
            nn.Sigmoid(),
            nn.Linear(84, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits
