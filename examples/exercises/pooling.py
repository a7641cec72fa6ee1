"""Exercise: pooling, the chapter cnnbench/reference/pooling.py.

    cnnbench gradcheck reference.module=examples/exercises/pooling.py

prints what is not written yet, and what looks wrong.
"""

import numpy as np


def find_windows(padded, size, stride):
    """Return all pixels of all windows of maps (N, C, H, W), as a view: (N, C, H', W', k, k)."""
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (size, size), axis=(2, 3), writeable=True
    )
    return windows[:, :, ::stride, ::stride]


class MaxPool2d:
    """The largest number of each window of size x size pixels."""

    def __init__(self, size, stride, pad):
        self.size, self.stride, self.pad = size, stride, pad

    def forward(self, x):
        """Return y (N, C, H', W') of maps x (N, C, H, W).

        The padding must not hide negative numbers: it is -infinity.
        """
        # Pad with np.pad(x, sides, constant_values=...). Keep it for backward.
        # find_windows gives all windows: take the largest number over axes 4 and 5.
        raise NotImplementedError

    def backward(self, dout):
        """Return dx: the gradient of an output belongs to the largest pixel of its window."""
        # Begin with zeros like the padded maps. np.ndindex(dout.shape) lists all (n, c, i, j).
        # window.argmax() is the place of the largest number in a flat window.
        # Windows may overlap: add with +=. Cut the padding off.
        raise NotImplementedError


class AvgPool2d:
    """The mean of each window of size x size pixels, with zeros as padding, which count."""

    def __init__(self, size, stride, pad):
        self.size, self.stride, self.pad = size, stride, pad

    def forward(self, x):
        """Return y (N, C, H', W') of maps x (N, C, H, W)."""
        # Pad with zeros, keep the shape for backward, and take means over axes 4 and 5.
        raise NotImplementedError

    def backward(self, dout):
        """Return dx: each pixel of a window gets 1 / size^2 of the gradient of its output."""
        # Begin with zeros in the padded shape. Add to every pixel of each window (i, j).
        # Windows may overlap: add with +=. Cut the padding off.
        raise NotImplementedError
