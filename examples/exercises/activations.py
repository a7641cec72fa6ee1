"""Exercise: activations, the chapter cnnbench/reference/activations.py.

    cnnbench gradcheck reference.module=examples/exercises/activations.py

prints what is not written yet, and what looks wrong.
"""

import numpy as np


class ReLU:
    """y = max(x, 0), for each number of x by itself."""

    def forward(self, x):
        """Return y in the shape of x."""
        # Keep where x is positive for backward.
        raise NotImplementedError

    def backward(self, dout):
        """Return dx = dout times the derivative: 1 where x > 0, else 0."""
        # Multiply: the chain rule.
        raise NotImplementedError


class Sigmoid:
    """y = 1 / (1 + e^-x)."""

    def forward(self, x):
        """Return y in the shape of x."""
        # np.exp is e to the power. Keep y for backward.
        raise NotImplementedError

    def backward(self, dout):
        """Return dx = dout times the derivative y (1 - y)."""
        # Multiply three factors.
        raise NotImplementedError


class Tanh:
    """y = (e^x - e^-x) / (e^x + e^-x)."""

    def forward(self, x):
        """Return y in the shape of x."""
        # np.tanh has no overflow. Keep y for backward.
        raise NotImplementedError

    def backward(self, dout):
        """Return dx = dout times the derivative 1 - y^2."""
        # Multiply two factors.
        raise NotImplementedError
