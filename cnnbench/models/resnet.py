"""ResNet.

Paper: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2015. `ResNet` is table 1,
`CifarResNet` is section 4.2.

**Deviations**, as in torchvision:

- A bottleneck that halves the map does so in its 3x3 convolution. The authors' models do so in the
  1x1 convolution before it.
- When the channels grow, ResNet-18 and ResNet-34 project (option B). Table 2 of the paper pads with
  zeros (option A).

`stem=small` is for images of 28 and 32 pixels. The paper does not have it.
"""

from typing import Literal

import torch
from torch import nn

__all__ = ["CifarResNet", "ResNet"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class ResNet(nn.Module):
    """A stem, four stages of residual blocks, global average pooling, one linear layer."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 224,
        depth: int = 18,
        stem: Literal["imagenet", "small"] = "imagenet",
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            allowed = ", ".join(map(str, BLOCKS))
            raise ValueError(f"depth={depth} is not in table 1 of the paper. Allowed: {allowed}.")
        block, blocks = BLOCKS[depth]
        if stem == "imagenet":
            conv = nn.Conv2d(
                in_channels, 64, 7, stride=2, padding=3, bias=False, padding_mode=padding_mode
            )
            pool: nn.Module = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        else:
            conv, pool = conv3x3(in_channels, 64, 1, padding_mode), nn.Identity()
        self.stem = nn.Sequential(  # (N, 1, 224, 224)
            conv,  # (N, 64, 112, 112)
            nn.BatchNorm2d(64),
            nn.ReLU(),
            pool,  # (N, 64, 56, 56)
        )
        out = block.expansion
        self.stages = nn.Sequential(  # shapes with basic blocks; bottlenecks: 4 times the channels
            stage(block, blocks[0], 64, 64, 1, padding_mode),  # (N, 64, 56, 56)
            stage(block, blocks[1], 64 * out, 128, 2, padding_mode),  # (N, 128, 28, 28)
            stage(block, blocks[2], 128 * out, 256, 2, padding_mode),  # (N, 256, 14, 14)
            stage(block, blocks[3], 256 * out, 512, 2, padding_mode),  # (N, 512, 7, 7)
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # (N, 512, 1, 1)
            nn.Flatten(),
            nn.Linear(512 * out, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.stages(self.stem(images)))
        return logits


class CifarResNet(nn.Module):
    """One convolution, three stages of n blocks, one linear layer: 6n + 2 layers.

    The shortcuts have no weights.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 32,
        depth: int = 20,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        n, rest = divmod(depth - 2, 6)
        if n < 1 or rest:
            below = 6 * max(n, 1) + 2
            raise ValueError(
                f"depth={depth} must be 6n + 2: 20, 32, 44, 56 or 110 as in the paper; "
                f"nearest {below}, {below + 6}."
            )
        self.stem = nn.Sequential(  # (N, 1, 32, 32)
            conv3x3(in_channels, 16, 1, padding_mode),  # (N, 16, 32, 32)
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )
        self.stages = nn.Sequential(
            stage(CifarBlock, n, 16, 16, 1, padding_mode),  # (N, 16, 32, 32)
            stage(CifarBlock, n, 16, 32, 2, padding_mode),  # (N, 32, 16, 16)
            stage(CifarBlock, n, 32, 64, 2, padding_mode),  # (N, 64, 8, 8)
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # (N, 64, 1, 1)
            nn.Flatten(),
            nn.Linear(64, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.stages(self.stem(images)))
        return logits


class Block(nn.Module):
    """ReLU(shortcut(x) + F(x)): (N, C, S, S) to (N, expansion * channels, S/stride, S/stride)."""

    expansion = 1  # output channels for each channel of the 3x3 convolution

    def __init__(
        self, in_channels: int, channels: int, stride: int, padding_mode: PaddingMode
    ) -> None:
        super().__init__()
        self.residual = self.make_residual(in_channels, channels, stride, padding_mode)
        same = stride == 1 and in_channels == channels * self.expansion
        self.shortcut = nn.Identity() if same else self.make_shortcut(in_channels, channels, stride)
        self.relu = nn.ReLU()

    def make_residual(
        self, in_channels: int, channels: int, stride: int, padding_mode: PaddingMode
    ) -> nn.Module:
        """Return F."""
        raise NotImplementedError

    def make_shortcut(self, in_channels: int, channels: int, stride: int) -> nn.Module:
        """Return option B of the paper, a projection."""
        out_channels = channels * self.expansion
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(self.residual(maps) + self.shortcut(maps))
        return out


class BasicBlock(Block):
    """Two 3x3 convolutions (figure 5, left)."""

    def make_residual(
        self, in_channels: int, channels: int, stride: int, padding_mode: PaddingMode
    ) -> nn.Module:
        return nn.Sequential(
            conv3x3(in_channels, channels, stride, padding_mode),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv3x3(channels, channels, 1, padding_mode),
            nn.BatchNorm2d(channels),
        )


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolution, the last with 4 times the channels (figure 5, right)."""

    expansion = 4

    def make_residual(
        self, in_channels: int, channels: int, stride: int, padding_mode: PaddingMode
    ) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv3x3(channels, channels, stride, padding_mode),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 4 * channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(4 * channels),
        )


class CifarBlock(BasicBlock):
    """A basic block whose shortcut has no weights."""

    def make_shortcut(self, in_channels: int, channels: int, stride: int) -> nn.Module:
        """Return option A of the paper: every other pixel, and zeros for the new channels."""
        subsample = nn.AvgPool2d(kernel_size=1, stride=stride)
        pad = nn.ConstantPad3d((0, 0, 0, 0, 0, channels - in_channels), 0.0)
        return nn.Sequential(subsample, pad)


# The block of each depth and the number of blocks in each stage: table 1.
BLOCKS: dict[int, tuple[type[Block], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def stage(
    block: type[Block],
    blocks: int,
    in_channels: int,
    channels: int,
    stride: int,
    padding_mode: PaddingMode,
) -> nn.Sequential:
    """Return `blocks` blocks in a row, of which the first has the stride."""
    out_channels = channels * block.expansion
    first = block(in_channels, channels, stride, padding_mode)
    others = (block(out_channels, channels, 1, padding_mode) for _ in range(1, blocks))
    return nn.Sequential(first, *others)


def conv3x3(
    in_channels: int, out_channels: int, stride: int, padding_mode: PaddingMode
) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, padding=1, bias=False, padding_mode=padding_mode
    )
