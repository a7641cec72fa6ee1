"""Exercise: the affine layer, the chapter cnnbench/reference/linear.py."""


class Linear:
    """Each of M outputs is a weighted sum of D inputs: W (M, D), b (M)."""

    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        """Return y = x W^T + b (N, M) of x (N, D)."""
        self.x = x
        return x @ self.W.T + self.b

    def backward(self, dout):
        """Set self.dW (M, D) and self.db (M), and return dx (N, D), from dout (N, M)."""
        self.dW = dout.T @ self.x
        self.db = dout.sum(axis=0)
        return dout @ self.W
