"""Exercise: dropout, the chapter cnnbench/reference/dropout.py.

    cnnbench gradcheck reference.module=examples/exercises/dropout.py

prints what is not written yet, and what looks wrong.
"""

import numpy as np


class Dropout:
    """In training each number is 0 with probability p, else it is divided by 1 - p."""

    def __init__(self, p):
        self.p = p

    def forward(self, x, training):
        """Return y in the shape of x. In evaluation it is x.

        Draw with np.random, which is seeded for each call, so that a resumed run draws the same.
        """
        # np.random.rand(*x.shape) draws from 0 to 1. How many are above p?
        # Keep the mask for backward.
        raise NotImplementedError

    def backward(self, dout):
        """Return dx, after a forward in training: dropped numbers get no gradient."""
        # The mask is a constant factor.
        raise NotImplementedError
