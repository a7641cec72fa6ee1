"""Exercise: pooling, the chapter cnnbench/reference/pooling.py."""

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
        pad = self.pad
        sides = ((0, 0), (0, 0), (pad, pad), (pad, pad))
        self.padded = np.pad(x, sides, constant_values=-np.inf)
        return find_windows(self.padded, self.size, self.stride).max(axis=(4, 5))

    def backward(self, dout):
        """Return dx: the gradient of an output belongs to the largest pixel of its window."""
        size, stride, pad = self.size, self.stride, self.pad
        dpadded = np.zeros_like(self.padded)
        for n, c, i, j in np.ndindex(dout.shape):
            rows = slice(i * stride, i * stride + size)
            cols = slice(j * stride, j * stride + size)
            window = self.padded[n, c, rows, cols]
            u, v = np.unravel_index(window.argmax(), window.shape)
            dpadded[n, c, i * stride + u, j * stride + v] += dout[n, c, i, j]
        return dpadded[:, :, pad : dpadded.shape[2] - pad, pad : dpadded.shape[3] - pad]


class AvgPool2d:
    """The mean of each window of size x size pixels, with zeros as padding, which count."""

    def __init__(self, size, stride, pad):
        self.size, self.stride, self.pad = size, stride, pad

    def forward(self, x):
        """Return y (N, C, H', W') of maps x (N, C, H, W)."""
        pad = self.pad
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        self.shape = padded.shape
        return find_windows(padded, self.size, self.stride).mean(axis=(4, 5))

    def backward(self, dout):
        """Return dx: each pixel of a window gets 1 / size^2 of the gradient of its output."""
        size, stride, pad = self.size, self.stride, self.pad
        dpadded = np.zeros(self.shape)
        for i, j in np.ndindex(dout.shape[2:]):
            rows = slice(i * stride, i * stride + size)
            cols = slice(j * stride, j * stride + size)
            dpadded[:, :, rows, cols] += dout[:, :, i, j, None, None] / size**2
        return dpadded[:, :, pad : dpadded.shape[2] - pad, pad : dpadded.shape[3] - pad]
