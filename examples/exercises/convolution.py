"""Exercise: convolution (cross-correlation), the chapter cnnbench/reference/convolution.py.

    cnnbench gradcheck reference.module=examples/exercises/convolution.py

prints what is not written yet, and what looks wrong.
"""

import numpy as np


class Conv2d:
    """Kernels W (M, C, k, k) slide over images in steps of `stride`; biases b (M)."""

    def __init__(self, W, b, stride, pad):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def find_windows(self, padded, u, v):
        """Return pixel (u, v) of every window of padded images: (N, C, H', W')."""
        k, stride = self.W.shape[2], self.stride
        rows = (padded.shape[2] - k) // stride + 1
        cols = (padded.shape[3] - k) // stride + 1
        return padded[:, :, u : u + stride * rows : stride, v : v + stride * cols : stride]

    def forward(self, x):
        """Return y (N, M, H', W') of images x (N, C, H, W), H' = (H + 2 pad - k) // stride + 1.

        y[n, m, i, j] = b[m] + sum over c, u, v of padded[n, c, s i + u, s j + v] W[m, c, u, v]
        """
        # Pad x with np.pad: self.pad zeros above, below, left and right. Keep it for backward.
        # For each pixel (u, v) of a window, find_windows gives this pixel of all windows.
        # Multiply by W[:, :, u, v], sum over the channels c, and add up. np.einsum does both.
        # Do not forget the bias: b[:, None, None] is (M, 1, 1).
        raise NotImplementedError

    def backward(self, dout):
        """Set self.dW and self.db, and return dx (N, C, H, W), from dout (N, M, H', W')."""
        # A bias is used in every window of every example: self.db is a sum over n, i and j.
        # self.dW[:, :, u, v] sums dout times pixel (u, v) of the windows over n, i and j.
        # A pixel lies in several windows: add up dout times W, in an array like the padded images.
        # Cut the padding off.
        raise NotImplementedError
