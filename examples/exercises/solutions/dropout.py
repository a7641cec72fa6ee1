"""Exercise: dropout, the chapter cnnbench/reference/dropout.py."""

import numpy as np


class Dropout:
    """In training each number is 0 with probability p, else it is divided by 1 - p."""

    def __init__(self, p):
        self.p = p

    def forward(self, x, training):
        """Return y in the shape of x. In evaluation it is x.

        Draw with np.random, which is seeded for each call, so that a resumed run draws the same.
        """
        if not training:
            return x
        self.mask = (np.random.rand(*x.shape) > self.p) / (1 - self.p)
        return x * self.mask

    def backward(self, dout):
        """Return dx, after a forward in training: dropped numbers get no gradient."""
        return dout * self.mask
