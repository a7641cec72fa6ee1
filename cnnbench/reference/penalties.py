"""Penalties on the size of the weights, added to the loss: small weights make smoother functions.

    L2    R = 1/2 sum of w^2        dR/dw = w
    L1    R = sum of |w|            dR/dw = sign(w)       1 above 0, -1 below
    Linf  R = maximum of |w|        dR/dw = sign(w) / m   for the m weights with |w| = R, else 0

Sums and maximum are over all numbers w of a tensor of any shape. With a factor lambda the objective
is loss + lambda R. Its gradient is that of the loss plus lambda dR/dw, for any use of the weight in
the network. (Backward: dW = dR dR/dw, where dR, the derivative of the objective with respect to R,
is lambda.)

L2 pulls a weight towards 0 in proportion to its size. Large weights shrink most, and none becomes
exactly 0. The factor 1/2 cancels the 2 of the derivative, so lambda w is exactly the term that the
`weight_decay` lambda of SGD, momentum, AdaGrad, RMSprop and Adam adds to the gradient, for each
parameter they update. In plain gradient descent the step is

    w <- w - lr (dloss/dw + lambda w) = (1 - lr lambda) w - lr dloss/dw

Optimizers that divide by a history of gradients, such as Adam, divide lambda w as well. AdamW
applies the factor 1 - lr lambda to the weight itself. For these optimizers that is different from a
penalty.

L1 pulls every weight with the same force, however small it is. Weights that the loss needs less
than lambda go to 0, and few weights do the work. (In plain gradient descent they stay within a step
of lr lambda around 0.) |w| has a kink at 0 and no derivative there. We take 0, which is one of its
subgradients, so a weight that is 0 is not pulled.

Linf, the maximum norm, pulls the largest weight alone, so that no weight stands out. It has a kink
where several weights are the largest. To pull any one of them is a subgradient, and so is the mean
of these, which we take. Training offers L2 and L1 only.

Cost for W weights: L2 takes W multiplications and W additions, and backward W multiplications. L1
takes W additions, and backward W multiplications with the sign. Linf takes W comparisons, and
backward W comparisons and W multiplications with the sign.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = [
    *("L1Penalty", "L2Penalty", "LinfPenalty"),
    *("l1_penalty", "l2_penalty", "linf_penalty"),
]


class L2Penalty(Function):
    """The L2 penalty: weights of any shape -> half the sum of their squares."""

    @staticmethod
    def forward(ctx: Any, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weights)
        return (weights * weights).sum() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = ctx.saved_tensors[0]
        return grad * weights


class L1Penalty(Function):
    """The L1 penalty: weights of any shape -> the sum of their absolute values."""

    @staticmethod
    def forward(ctx: Any, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weights)
        return weights.abs().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = ctx.saved_tensors[0]
        return grad * weights.sign()


class LinfPenalty(Function):
    """The L infinity norm: weights of any shape -> the largest of their absolute values."""

    @staticmethod
    def forward(ctx: Any, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weights)
        return weights.abs().max()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = ctx.saved_tensors[0]
        sizes = weights.abs()
        is_largest = sizes == sizes.max()
        return grad * weights.sign() * is_largest / is_largest.sum()


def l2_penalty(model: nn.Module) -> torch.Tensor:
    """Return half the sum of the squares of all weights.

    Parameters with one dimension, biases and those of normalization layers, do not count.
    """
    return torch.stack([L2Penalty.apply(p) for p in model.parameters() if p.ndim > 1]).sum()


def l1_penalty(model: nn.Module) -> torch.Tensor:
    """Return the sum of the absolute values of all weights.

    Parameters with one dimension, biases and those of normalization layers, do not count.
    """
    return torch.stack([L1Penalty.apply(p) for p in model.parameters() if p.ndim > 1]).sum()


def linf_penalty(model: nn.Module) -> torch.Tensor:
    """Return the largest of the absolute values of all weights.

    Parameters with one dimension, biases and those of normalization layers, do not count.
    """
    return torch.stack([LinfPenalty.apply(p) for p in model.parameters() if p.ndim > 1]).amax()
