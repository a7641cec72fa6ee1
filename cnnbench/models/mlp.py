"""The multilayer perceptron of the course notes, a fully connected network to compare CNNs with.

**Deviations**: none.
"""

import torch
from torch import nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear layers with ReLU between them; `widths` holds the features of each hidden layer."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        widths: list[int] | None = None,
    ) -> None:
        super().__init__()
        widths = [512, 256, 128, 64] if widths is None else widths
        if any(width < 1 for width in widths):
            raise ValueError(f"widths={widths}: every width must be at least 1")
        layers: list[nn.Module] = [nn.Flatten()]  # (N, 784)
        features = in_channels * image_size * image_size
        for width in widths:
            layers += [nn.Linear(features, width), nn.ReLU()]  # (N, width)
            features = width
        self.layers = nn.Sequential(*layers, nn.Linear(features, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits
