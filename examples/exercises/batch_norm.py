"""Exercise: batch normalization, the chapter cnnbench/reference/batch_norm.py.

    cnnbench gradcheck reference.module=examples/exercises/batch_norm.py

prints what is not written yet, and what looks wrong.
"""

import numpy as np

AXES = (0, 2, 3)  # A channel has M = N H W numbers.


def spread(values):
    """Return one number per channel, (C), as (C, 1, 1), to compute with maps (N, C, H, W)."""
    return values[:, None, None]


class BatchNorm2d:
    """Each channel gets mean beta and standard deviation gamma over the batch; both are (C)."""

    def __init__(self, gamma, beta, running_mean, running_var, momentum, eps):
        self.gamma, self.beta, self.momentum, self.eps = gamma, beta, momentum, eps
        self.running_mean, self.running_var = running_mean, running_var

    def forward(self, x, training):
        """Return y (N, C, H, W) of x. In training, move running_mean and running_var.

        mean and var of the batch, divided by M
        normalized = (x - mean) / sqrt(var + eps)
        y = gamma normalized + beta
        running_mean = (1 - momentum) running_mean + momentum mean
        running_var = (1 - momentum) running_var + momentum var M / (M - 1)

        In evaluation the running values take the place of mean and var.
        """
        # x.mean(axis=AXES) and x.var(axis=AXES) are those of the batch, (C).
        # Keep std and normalized for backward.
        raise NotImplementedError

    def backward(self, dout):
        """Set self.dgamma and self.dbeta, and return dx, after a forward in training.

        dx = gamma / std (dout - dbeta / M - normalized dgamma / M)
        """
        # self.dbeta is the sum of dout, self.dgamma the sum of dout normalized.
        # M is the number of values of a channel.
        raise NotImplementedError
