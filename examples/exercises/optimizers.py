"""Exercise: optimizers, the chapter cnnbench/reference/optimizers.py.

    cnnbench gradcheck reference.module=examples/exercises/optimizers.py

prints what is not written yet, and what looks wrong.

`params` and `grads` are dictionaries of arrays with the same keys. `update` changes the arrays of
the first. What an optimizer remembers is an attribute that `__init__` sets, to None at first.
"""

import numpy as np


class SGD:
    """w <- w - lr g."""

    def __init__(self, lr):
        self.lr = lr

    def update(self, params, grads):
        """Change each array of `params` by the gradient of the same key."""
        # params[key] -= ... changes the array itself.
        raise NotImplementedError


class Momentum:
    """v <- momentum v + g; w <- w - lr v. v begins with zeros.

    The form v <- momentum v - lr g; w <- w + v gives the same weights while lr is constant.
    """

    def __init__(self, lr, momentum):
        self.lr, self.momentum = lr, momentum
        self.v = None

    def update(self, params, grads):
        """Change each array of `params`, and its velocity in self.v."""
        # At the first call, make self.v: zeros like each array, by key.
        raise NotImplementedError


class AdaGrad:
    """h <- h + g^2; w <- w - lr g / (sqrt(h) + eps). h begins with zeros."""

    def __init__(self, lr, eps):
        self.lr, self.eps = lr, eps
        self.h = None

    def update(self, params, grads):
        """Change each array of `params`, and its sum of squares in self.h."""
        # At the first call, make self.h: zeros like each array, by key.
        raise NotImplementedError


class Adam:
    """The mean of the gradients over the root of the mean of their squares, both moving.

    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) g^2
    w <- w - lr m' / (sqrt(v') + eps), in step t with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)
    """

    def __init__(self, lr, beta1, beta2, eps):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.t = 0
        self.m = None
        self.v = None

    def update(self, params, grads):
        """Change each array of `params`, its averages in self.m and self.v, and the step self.t."""
        # At the first call, make self.m and self.v. Count the steps in self.t.
        raise NotImplementedError
