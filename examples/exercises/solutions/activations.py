"""Exercise: activations, the chapter cnnbench/reference/activations.py."""

import numpy as np


class ReLU:
    """y = max(x, 0), for each number of x by itself."""

    def forward(self, x):
        """Return y in the shape of x."""
        self.is_positive = x > 0
        return x * self.is_positive

    def backward(self, dout):
        """Return dx = dout times the derivative: 1 where x > 0, else 0."""
        return dout * self.is_positive


class Sigmoid:
    """y = 1 / (1 + e^-x)."""

    def forward(self, x):
        """Return y in the shape of x."""
        self.y = 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, dout):
        """Return dx = dout times the derivative y (1 - y)."""
        return dout * self.y * (1 - self.y)


class Tanh:
    """y = (e^x - e^-x) / (e^x + e^-x)."""

    def forward(self, x):
        """Return y in the shape of x."""
        self.y = np.tanh(x)
        return self.y

    def backward(self, dout):
        """Return dx = dout times the derivative 1 - y^2."""
        return dout * (1 - self.y**2)
