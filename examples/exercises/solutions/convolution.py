"""Exercise: convolution (cross-correlation), the chapter cnnbench/reference/convolution.py."""

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
        pad, k = self.pad, self.W.shape[2]
        self.padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        y = self.b[:, None, None]  # (M, 1, 1)
        for u in range(k):
            for v in range(k):
                pixels = self.find_windows(self.padded, u, v)
                y = y + np.einsum("nchw,mc->nmhw", pixels, self.W[:, :, u, v])
        return y

    def backward(self, dout):
        """Set self.dW and self.db, and return dx (N, C, H, W), from dout (N, M, H', W')."""
        pad, k = self.pad, self.W.shape[2]
        self.db = dout.sum(axis=(0, 2, 3))
        self.dW = np.zeros_like(self.W)
        dpadded = np.zeros_like(self.padded)
        for u in range(k):
            for v in range(k):
                pixels = self.find_windows(self.padded, u, v)
                self.dW[:, :, u, v] = np.einsum("nmhw,nchw->mc", dout, pixels)
                dpixels = self.find_windows(dpadded, u, v)  # a view: += changes dpadded
                dpixels += np.einsum("nmhw,mc->nchw", dout, self.W[:, :, u, v])
        return dpadded[:, :, pad : dpadded.shape[2] - pad, pad : dpadded.shape[3] - pad]
