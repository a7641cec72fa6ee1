"""A strided convolution of few channels, as one that matrix units like.

With blocks of s x s pixels made channels, a k x k convolution of stride s is one of ceil(k / s) x ceil(k / s) and
stride 1 on s * s times the channels, its kernel padded with zeros: the same sums. AlexNet's 11x11 of stride 4 on one
channel becomes a 3x3 on 16. The parameters stay those of the network.
"""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["SpaceToDepthConv2d", "use_space_to_depth"]

MOST_CHANNELS = 4  # in the images; from 8 on the units are busy as it is


class SpaceToDepthConv2d(nn.Conv2d):
    """Computes a convolution by space-to-depth: images (N, C, H, W) to maps in channels-last format.

    The convolution has one stride s > 1 for both dimensions and a square kernel at least as large, padding by zeros and
    neither groups nor dilation: see `fits`.
    """

    @staticmethod
    def fits(convolution: nn.Module) -> bool:
        if type(convolution) is not nn.Conv2d or isinstance(convolution.padding, str):
            return False
        c, stride = convolution, convolution.stride[0]
        return (
            c.in_channels <= MOST_CHANNELS
            and c.stride == (stride, stride)
            and c.kernel_size == (c.kernel_size[0], c.kernel_size[0])
            and 1 < stride <= c.kernel_size[0]
            and (c.groups, c.dilation, c.padding_mode) == (1, (1, 1), "zeros")
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        blocks = -(-kernel // stride)
        edge = blocks * stride - kernel
        weight = functional.pixel_unshuffle(functional.pad(self.weight, (0, edge, 0, edge)), stride)
        assert not isinstance(self.padding, str)
        sides = [
            _padding(size, kernel, stride, padding)
            for size, padding in zip(images.shape[2:], self.padding, strict=True)
        ]
        (top, bottom), (left, right) = sides
        padded = functional.pad(images, (left, right, top, bottom))
        return functional.conv2d(_unshuffle(padded, stride), weight, self.bias)


def _padding(size: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """What goes before and after `size` pixels so that blocks fit; below zero if the last pixels are not looked at."""
    windows = (size + 2 * padding - kernel) // stride + 1
    blocks = windows - 1 + -(-kernel // stride)
    return padding, blocks * stride - size - padding


def _unshuffle(images: torch.Tensor, block: int) -> torch.Tensor:
    """As pixel_unshuffle, (N, C, H, W) to (N, C block^2, H / block, W / block), but straight to channels last."""
    count, channels, height, width = images.shape
    split = images.reshape(count, channels, height // block, block, width // block, block)
    return split.permute(0, 2, 4, 1, 3, 5).flatten(3).permute(0, 3, 1, 2)


def use_space_to_depth(network: nn.Module) -> None:
    """Let the convolutions of `network` that fit compute so, with the same parameters under the same names."""
    for module in network.modules():
        if SpaceToDepthConv2d.fits(module):
            module.__class__ = SpaceToDepthConv2d  # it has no state of its own
