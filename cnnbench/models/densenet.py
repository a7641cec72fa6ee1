"""DenseNet.

Paper: Huang, Liu, van der Maaten, Weinberger, Densely Connected Convolutional Networks, 2017.
`DenseNet` is table 1. `CifarDenseNet` is table 2 and the implementation details of section 3.

**Deviations**: none. As in the paper, dropout follows every convolution but the first.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["CifarDenseNet", "DenseNet"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]

LAYERS = {  # the layers of each dense block, by depth
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    264: (6, 12, 64, 48),
}


class DenseNet(nn.Module):
    """A 7x7 stem, four dense blocks with bottlenecks and transitions, one linear layer."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 224,
        depth: int = 121,
        growth_rate: int = 32,
        bottleneck: bool = True,
        compression: float = 0.5,
        dropout: float = 0.0,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        if depth not in LAYERS:
            allowed = ", ".join(map(str, LAYERS))
            raise ValueError(f"depth={depth} is not in table 1 of the paper. Allowed: {allowed}.")
        check_ranges(growth_rate, compression)
        channels = 2 * growth_rate
        self.stem = nn.Sequential(  # (N, 1, 224, 224)
            nn.Conv2d(
                in_channels, channels, 7, stride=2, padding=3, bias=False, padding_mode=padding_mode
            ),
            nn.BatchNorm2d(channels),
            nn.ReLU(),  # (N, 64, 112, 112)
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),  # (N, 64, 56, 56)
        )
        # DenseNet-121: (N, 256, 56, 56), (N, 512, 28, 28), (N, 1024, 14, 14), (N, 1024, 7, 7)
        self.blocks, channels = dense_blocks(
            LAYERS[depth], channels, growth_rate, bottleneck, compression, dropout, padding_mode
        )
        self.classifier = classifier(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.blocks(self.stem(images)))
        return logits


class CifarDenseNet(nn.Module):
    """One 3x3 convolution, three dense blocks with transitions, one linear layer.

    DenseNet-BC has `bottleneck=true` and a `compression` below 1.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 32,
        depth: int = 40,
        growth_rate: int = 12,
        bottleneck: bool = False,
        compression: float = 1.0,
        dropout: float = 0.0,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        step = 6 if bottleneck else 3  # convolutions of one layer in each of three blocks
        layers, rest = divmod(depth - 4, step)
        if layers < 1 or rest:
            below = step * max(layers, 1) + 4
            raise ValueError(
                f"depth={depth} must be {step}n + 4 with bottleneck={str(bottleneck).lower()}; "
                f"the nearest are {below} and {below + step}."
            )
        check_ranges(growth_rate, compression)
        channels = 2 * growth_rate if bottleneck and compression < 1 else 16
        self.stem = nn.Conv2d(
            in_channels, channels, 3, padding=1, bias=False, padding_mode=padding_mode
        )
        # DenseNet-40: (N, 16, 32, 32), (N, 160, 32, 32), (N, 304, 16, 16), (N, 448, 8, 8)
        self.blocks, channels = dense_blocks(
            (layers, layers, layers),
            channels,
            growth_rate,
            bottleneck,
            compression,
            dropout,
            padding_mode,
        )
        self.classifier = classifier(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.blocks(self.stem(images)))
        return logits


def check_ranges(growth_rate: int, compression: float) -> None:
    """Check the arguments that both networks take.

    Raises:
        ValueError: one of them is out of range.
    """
    if growth_rate < 1:
        raise ValueError(
            f"growth_rate={growth_rate} must be at least 1; the paper has 12, 24, 32, 40 and 48."
        )
    if not 0 < compression <= 1:
        raise ValueError(
            f"compression={compression} must be above 0 and at most 1; DenseNet-BC has 0.5."
        )


class DenseLayer(nn.Module):
    """A layer whose new maps follow its input: (N, C, S, S) to (N, C + growth_rate, S, S)."""

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        bottleneck: bool,
        dropout: float,
        padding_mode: PaddingMode,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if bottleneck:
            layers = [
                *bn_relu_conv(in_channels, 4 * growth_rate, 1, padding_mode),
                nn.Dropout(dropout),
            ]
            in_channels = 4 * growth_rate
        layers += [*bn_relu_conv(in_channels, growth_rate, 3, padding_mode), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps, self.layers(maps)], dim=1)


def dense_blocks(
    layers_per_block: tuple[int, ...],
    channels: int,
    growth_rate: int,
    bottleneck: bool,
    compression: float,
    dropout: float,
    padding_mode: PaddingMode,
) -> tuple[nn.Sequential, int]:
    """Return dense blocks and their number of output channels.

    Transitions between the blocks compress the channels and halve the sides.
    """
    blocks: list[nn.Module] = []
    for layers in layers_per_block:
        if blocks:
            compressed = max(1, int(channels * compression))
            transition = [
                *bn_relu_conv(channels, compressed, 1, padding_mode),
                nn.Dropout(dropout),
                nn.AvgPool2d(2),
            ]
            blocks.append(nn.Sequential(*transition))
            channels = compressed
        block = []
        for _ in range(layers):
            block.append(DenseLayer(channels, growth_rate, bottleneck, dropout, padding_mode))
            channels += growth_rate
        blocks.append(nn.Sequential(*block))
    return nn.Sequential(*blocks), channels


def classifier(channels: int, num_classes: int) -> nn.Sequential:
    """Return layers from (N, channels, S, S) to logits (N, num_classes)."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, num_classes),
    )


def bn_relu_conv(
    in_channels: int, out_channels: int, kernel_size: int, padding_mode: PaddingMode
) -> list[nn.Module]:
    """Return batch normalization, ReLU and a convolution that keeps the sides."""
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        bias=False,
        padding_mode=padding_mode,
    )
    return [nn.BatchNorm2d(in_channels), nn.ReLU(), conv]
