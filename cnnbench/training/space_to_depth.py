"""Space-to-depth: compute a strided convolution of few channels with more channels, for speed.

Each block of s x s pixels becomes s * s channels. A k x k convolution of stride s then is a
convolution of stride 1 with a kernel of ceil(k / s) x ceil(k / s), padded with zeros. The sums are
the same. AlexNet's 11x11 of stride 4 on one channel becomes a 3x3 on 16 channels, which matrix
units compute faster. The parameters of the network do not change.
"""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["SpaceToDepthConv2d", "use_space_to_depth"]

MAX_CHANNELS = 4  # input channels; 8 or more use the matrix units well enough


class SpaceToDepthConv2d(nn.Conv2d):
    """A convolution by space-to-depth, with outputs in channels-last format.

    `supports` checks the requirements: zero padding, neither groups nor dilation, one stride s > 1
    for both dimensions, and a square kernel of at least s x s.
    """

    @staticmethod
    def supports(module: nn.Module) -> bool:
        """Return whether `module` is a convolution that this class can and should compute."""
        if type(module) is not nn.Conv2d or isinstance(module.padding, str):
            return False
        stride, kernel = module.stride[0], module.kernel_size[0]
        return (
            module.in_channels <= MAX_CHANNELS
            and module.stride == (stride, stride)
            and module.kernel_size == (kernel, kernel)
            and 1 < stride <= kernel
            and (module.groups, module.dilation, module.padding_mode) == (1, (1, 1), "zeros")
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Convolve images (N, C, H, W)."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        blocks = -(-kernel // stride)
        edge = blocks * stride - kernel
        weight = functional.pixel_unshuffle(functional.pad(self.weight, (0, edge, 0, edge)), stride)
        assert not isinstance(self.padding, str)
        top, left = self.padding
        height, width = images.shape[2:]
        bottom = _padding_after(height, kernel, stride, top)
        right = _padding_after(width, kernel, stride, left)
        padded = functional.pad(images, (left, right, top, bottom))
        return functional.conv2d(_unshuffle(padded, stride), weight, self.bias)


def _padding_after(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return how many pixels to add after `size` pixels, so that blocks cover all windows.

    It is negative if no window covers the last pixels.
    """
    windows = (size + 2 * padding - kernel) // stride + 1
    blocks = windows - 1 + -(-kernel // stride)
    return blocks * stride - size - padding


def _unshuffle(images: torch.Tensor, block: int) -> torch.Tensor:
    """Return pixel_unshuffle of images (N, C, H, W), directly in channels-last format.

    The result has the shape (N, C block^2, H / block, W / block).
    """
    count, channels, height, width = images.shape
    split = images.reshape(count, channels, height // block, block, width // block, block)
    return split.permute(0, 2, 4, 1, 3, 5).flatten(3).permute(0, 3, 1, 2)


def use_space_to_depth(network: nn.Module) -> None:
    """Compute the supported convolutions of `network` by space-to-depth, with their parameters."""
    for module in network.modules():
        if SpaceToDepthConv2d.supports(module):
            module.__class__ = SpaceToDepthConv2d  # a subclass without more state
