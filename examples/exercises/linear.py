"""Exercise: the affine layer, the chapter cnnbench/reference/linear.py.

    cnnbench gradcheck reference.module=examples/exercises/linear.py

prints what is not written yet, and what looks wrong.
"""


class Linear:
    """Each of M outputs is a weighted sum of D inputs: W (M, D), b (M)."""

    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        """Return y = x W^T + b (N, M) of x (N, D)."""
        # Keep x for backward. W^T is self.W.T.
        raise NotImplementedError

    def backward(self, dout):
        """Set self.dW (M, D) and self.db (M), and return dx (N, D), from dout (N, M)."""
        # A weight is used in all N examples: self.dW is a matrix product of dout and x.
        # A bias, too: self.db is a sum over the examples.
        # An input is used in all M outputs: dx is a matrix product of dout and W.
        raise NotImplementedError
