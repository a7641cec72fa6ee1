"""The multilayer perceptron of the course notes, a fully connected network to compare CNNs with.

**Deviations**: none by default. `activation="step"` is the perceptron's: its gradient is 0, so only
the last layer learns.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["MLP"]


class Step(nn.Module):
    """1 where the input is above 0, else 0. The gradient is 0 everywhere."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.relu().sign()


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "step": Step,
}


class MLP(nn.Module):
    """Linear layers with an activation between them; `widths` are the features of hidden layers."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        widths: list[int] | None = None,
        activation: Literal["relu", "sigmoid", "tanh", "step"] = "relu",
    ) -> None:
        super().__init__()
        widths = [512, 256, 128, 64] if widths is None else widths
        if any(width < 1 for width in widths):
            raise ValueError(f"widths={widths}: every width must be at least 1")
        act = ACTIVATIONS[activation]
        layers: list[nn.Module] = [nn.Flatten()]  # (N, 784)
        features = in_channels * image_size * image_size
        for width in widths:
            layers += [nn.Linear(features, width), act()]  # (N, width)
            features = width
        self.layers = nn.Sequential(*layers, nn.Linear(features, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits
