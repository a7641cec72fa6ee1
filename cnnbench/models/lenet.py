"""LeNet.

Paper: LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition,
1998, figure 2. The form is that of Dive into Deep Learning, section 7.6.

**Deviations** from the paper, as in the book:

- Each map of the second convolution sees all maps of the first.
- Sigmoid replaces a scaled tanh.
- Pooling has no weights, and no activation follows it.
- A linear layer of logits replaces the Gaussian connections.
- The first convolution is padded by 2: images of 28 pixels give the maps that the paper has for 32.

The options go beyond both. `activation="step"` is the perceptron's: its gradient is 0, so only the
last layer learns.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

__all__ = ["LeNet", "LeNetReLU"]

PaddingMode = Literal["zeros", "constant", "reflect", "replicate", "circular"]


class Step(nn.Module):
    """1 where the input is above 0, else 0. The gradient is 0 everywhere."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.relu().sign()


class MinPool2d(nn.MaxPool2d):
    """Pooling by the smallest value of each window."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return -functional.max_pool2d(-maps, self.kernel_size, self.stride)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "step": Step,
}
POOLINGS = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d, "min": MinPool2d}


class LeNet(nn.Module):
    """Two sigmoid convolutions with average pooling, three linear layers.

    `channels` holds the maps of both convolutions, and `hidden` the features of each hidden linear
    layer. `padding_value` is the value of the pixels that `padding_mode="constant"` adds.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        kernel_size: int = 5,
        channels: Sequence[int] = (6, 16),
        hidden: Sequence[int] = (120, 84),
        activation: Literal["sigmoid", "tanh", "relu", "step"] = "sigmoid",
        pooling: Literal["avg", "max", "min"] = "avg",
        padding_mode: PaddingMode = "zeros",
        padding_value: float | None = None,
    ) -> None:
        super().__init__()
        check_kernel_size(kernel_size, image_size)
        if len(channels) != 2 or min(channels) < 1:
            raise ValueError(f"channels={list(channels)} must be two numbers of at least 1.")
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden={list(hidden)}: every layer needs at least 1 feature.")
        first, second = channels
        act, pool = ACTIVATIONS[activation], POOLINGS[pooling]
        side = (image_size // 2 - kernel_size + 1) // 2
        self.features = nn.Sequential(  # (N, 1, 28, 28)
            *padded_conv(in_channels, first, kernel_size, padding_mode, padding_value),
            act(),  # (N, 6, 28, 28)
            pool(kernel_size=2),  # (N, 6, 14, 14)
            nn.Conv2d(first, second, kernel_size),  # (N, 16, 10, 10)
            act(),
            pool(kernel_size=2),  # (N, 16, 5, 5)
        )
        layers: list[nn.Module] = [nn.Flatten()]  # (N, 400)
        features = second * side * side
        for width in hidden:
            layers += [nn.Linear(features, width), act()]  # (N, 120), (N, 84)
            features = width
        self.classifier = nn.Sequential(*layers, nn.Linear(features, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


def check_kernel_size(kernel_size: int, image_size: int) -> None:
    """Raise ValueError unless both convolutions of LeNet can have this kernel.

    The padding of the first one keeps the size of the image, which needs an odd kernel. The second
    one has to leave 2 x 2 pixels for the last pooling.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size={kernel_size} must be odd and at least 1: "
            "the first convolution pads by kernel_size // 2, which keeps the size of the image."
        )
    pooled = image_size // 2  # the side of the maps that the second convolution gets
    if kernel_size > pooled - 1:
        largest = pooled - 1 - pooled % 2
        raise ValueError(
            f"kernel_size={kernel_size} is too large for images of {image_size} pixels: the second "
            f"convolution gets maps of {pooled} x {pooled}. Take at most kernel_size={largest}, "
            f"or at least data.resize={2 * kernel_size + 2}."
        )


def padded_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    padding_mode: PaddingMode,
    padding_value: float | None,
) -> list[nn.Module]:
    """Return a convolution that keeps the size: (N, in_channels, S, S) to (N, out_channels, S, S).

    PyTorch's convolution has no mode "constant": a layer before it pads.
    """
    padding = kernel_size // 2
    conv = partial(nn.Conv2d, in_channels, out_channels, kernel_size)
    if padding_mode != "constant":
        if padding_value is not None:
            raise ValueError(f"padding_value={padding_value} needs padding_mode=constant.")
        return [conv(padding=padding, padding_mode=padding_mode)]
    if padding_value is None or not math.isfinite(padding_value):
        shown = "null" if padding_value is None else padding_value
        raise ValueError(
            f"padding_mode=constant needs a finite padding_value, such as 0.5, not {shown}."
        )
    return [nn.ConstantPad2d(padding, padding_value), conv()]


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
