"""Pre-activation ResNet, with the shortcuts and the orders of activation that its paper compares.

Paper: He, Zhang, Ren, Sun, Identity Mappings in Deep Residual Networks, 2016. `shortcut` is table 1
and figure 2, measured there with `activation_order=original`. `activation_order` is table 2 and
figure 4.

**Deviations**: none known. Details that the paper leaves open follow the authors' code
(KaimingHe/resnet-1k-layers) and their first paper:

- When the channels grow, bottlenecks project the activated maps (appendix of the paper).
- When the channels grow, basic units pad with zeros (option A of the first paper).
- Bottlenecks halve the map in their first convolution.
- If table 1 has several rows for a shortcut, this is the best row: both branches scaled by 0.5, and
  gates that start nearly closed (bias -6).
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import nn

__all__ = ["PreActResNet"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Shortcut = Literal[
    "identity", "constant_scaling", "exclusive_gating", "shortcut_only_gating", "conv1x1", "dropout"
]
ActivationOrder = Literal[
    "original",
    "bn_after_addition",
    "relu_before_addition",
    "relu_only_preactivation",
    "full_preactivation",
]

# Batch normalization (B) and ReLU (R) of each order: before a convolution, after a convolution,
# after the last convolution, after the addition.
ORDERS = {
    "original": ("", "BR", "B", "R"),
    "bn_after_addition": ("", "BR", "", "BR"),
    "relu_before_addition": ("", "BR", "BR", ""),
    "relu_only_preactivation": ("R", "B", "B", ""),
    "full_preactivation": ("BR", "", "", ""),
}


class PreActResNet(nn.Module):
    """One convolution, three stages of residual units, one linear layer.

    With n units in each stage the depth is 6n + 2, or 9n + 2 with bottlenecks.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 32,
        depth: int = 164,
        bottleneck: bool = True,
        shortcut: Shortcut = "identity",
        activation_order: ActivationOrder = "full_preactivation",
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        step = 9 if bottleneck else 6  # convolutions of one unit in each of three stages
        units, rest = divmod(depth - 2, step)
        if units < 1 or rest:
            below = step * max(units, 1) + 2
            raise ValueError(
                f"depth={depth} must be {step}n + 2 with bottleneck={str(bottleneck).lower()}; "
                f"the nearest are {below} and {below + step}."
            )

        before, after, _, _ = ORDERS[activation_order]
        out = 4 if bottleneck else 1

        def stage(
            in_channels: int, channels: int, stride: int, after_stem: bool = False
        ) -> nn.Sequential:
            options = (bottleneck, shortcut, activation_order, padding_mode)
            first = Unit(in_channels, channels, stride, *options, after_stem)
            others = (Unit(channels * out, channels, 1, *options) for _ in range(1, units))
            return nn.Sequential(first, *others)

        self.stem = nn.Sequential(  # (N, 1, 32, 32)
            conv(in_channels, 16, 3, 1, padding_mode),  # (N, 16, 32, 32)
            *norm_and_relu(after, 16),
        )
        self.stages = nn.Sequential(  # shapes with basic units; bottlenecks: 4 times the channels
            stage(16, 16, stride=1, after_stem=True),  # (N, 16, 32, 32)
            stage(16 * out, 32, stride=2),  # (N, 32, 16, 16)
            stage(32 * out, 64, stride=2),  # (N, 64, 8, 8)
        )
        self.classifier = nn.Sequential(
            *norm_and_relu(before, 64 * out),
            nn.AdaptiveAvgPool2d(1),  # (N, 64, 1, 1)
            nn.Flatten(),
            nn.Linear(64 * out, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.stages(self.stem(images)))
        return logits


class Unit(nn.Module):
    """The sum of a shortcut and a residual branch: (N, C, S, S) to (N, C', S/stride, S/stride).

    C' is `channels`, or four times as many with a bottleneck.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        bottleneck: bool,
        shortcut: Shortcut,
        activation_order: ActivationOrder,
        padding_mode: PaddingMode,
        after_stem: bool = False,
    ) -> None:
        super().__init__()
        before, after, after_last, after_addition = ORDERS[activation_order]
        widths = (channels, channels, 4 * channels) if bottleneck else (channels, channels)
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        out_channels = widths[-1]

        self.activation = nn.Sequential(*norm_and_relu(before, in_channels))
        layers: list[nn.Module] = [conv(in_channels, widths[0], kernels[0], stride, padding_mode)]
        for (width, next_width), kernel_size in zip(pairwise(widths), kernels[1:], strict=True):
            layers += norm_and_relu(after + before, width)
            layers.append(conv(width, next_width, kernel_size, 1, padding_mode))
        self.residual = nn.Sequential(*layers, *norm_and_relu(after_last, out_channels))
        self.after_addition = nn.Sequential(*norm_and_relu(after_addition, out_channels))

        grows = in_channels != out_channels
        projects = shortcut == "conv1x1" or (grows and bottleneck)
        self.shortcut: nn.Module = nn.Identity()
        if projects:
            projection = conv(in_channels, out_channels, 1, stride, padding_mode)
            norm = norm_and_relu(after_last.removesuffix("R"), out_channels)
            self.shortcut = nn.Sequential(projection, *norm)
        elif grows:
            subsample = nn.AvgPool2d(kernel_size=1, stride=stride)
            pad = nn.ConstantPad3d((0, 0, 0, 0, 0, out_channels - in_channels), 0.0)
            self.shortcut = nn.Sequential(subsample, pad)
        self.activates_both = projects or after_stem

        self.form = shortcut
        if shortcut in ("exclusive_gating", "shortcut_only_gating"):
            self.gate = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride), nn.Sigmoid())
            nn.init.constant_(self.gate.get_parameter("0.bias"), -6.0)
        elif shortcut == "dropout":
            self.dropout = nn.Dropout(0.5)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        activated = self.activation(maps)
        residual = self.residual(activated)
        maps = activated if self.activates_both else maps
        shortcut = self.shortcut(maps)
        match self.form:  # figure 2
            case "constant_scaling":
                residual, shortcut = 0.5 * residual, 0.5 * shortcut
            case "exclusive_gating":
                gate = self.gate(maps)
                residual, shortcut = gate * residual, (1 - gate) * shortcut
            case "shortcut_only_gating":
                shortcut = (1 - self.gate(maps)) * shortcut
            case "dropout":
                shortcut = self.dropout(shortcut)
        out: torch.Tensor = self.after_addition(shortcut + residual)
        return out


def norm_and_relu(order: str, channels: int) -> list[nn.Module]:
    """Return a batch normalization for each B of `order` and a ReLU for each R."""
    return [nn.BatchNorm2d(channels) if letter == "B" else nn.ReLU() for letter in order]


def conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, padding_mode: PaddingMode
) -> nn.Conv2d:
    """Return a convolution without bias whose padding keeps the sides at stride 1."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=kernel_size // 2,
        bias=False,
        padding_mode=padding_mode,
    )
