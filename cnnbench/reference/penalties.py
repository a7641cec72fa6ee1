"""Penalties on the size of the weights, which are added to the loss: a network of small weights is a smoother function.

    L2    R = 1/2 sum of w^2        dR/dw = w
    L1    R = sum of |w|            dR/dw = sign(w)       1 above 0, -1 below

The sums are over all numbers w of a tensor of any shape. With a factor lambda the objective is loss + lambda R. Its
gradient is that of the loss plus lambda dR/dw, whatever the weight does in the network. (Backward: dW = dR dR/dw,
where dR, the derivative of the objective with respect to R, is lambda.)

L2 pulls a weight towards 0 in proportion to its size: large ones shrink most, and none is brought to 0 itself. The
half is there to cancel the 2 of the derivative: lambda w is exactly what the `weight_decay` lambda of SGD, momentum,
AdaGrad, RMSprop and Adam adds to the gradient, for each parameter they are given. By plain descent the step is

    w <- w - lr (dloss/dw + lambda w) = (1 - lr lambda) w - lr dloss/dw

The optimizers that divide by a history of gradients, such as Adam, divide lambda w with the rest; AdamW applies the
factor 1 - lr lambda to the weight itself, which for them is something else than a penalty.

L1 pulls every weight with the same force, however small it is: those that the loss needs less than lambda go to 0,
and few weights do the work. (By plain descent, to within a step of lr lambda around 0.) |w| has a kink at 0 and no
derivative there; 0 is taken, one of its subgradients, and a weight that is 0 is left in peace.

Cost for W weights: L2 W multiplications and W additions, backward W multiplications; L1 W additions, and W
multiplications with the sign backward.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["L1Penalty", "L2Penalty", "l1_penalty", "l2_penalty"]


class L2Penalty(Function):
    """weights of any shape to half the sum of their squares."""

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
    """weights of any shape to the sum of their absolute values."""

    @staticmethod
    def forward(ctx: Any, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weights)
        return weights.abs().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = ctx.saved_tensors[0]
        return grad * weights.sign()


def l2_penalty(model: nn.Module) -> torch.Tensor:
    """Half the sum of the squares of all weights; biases and normalisation, which have one dimension, are free."""
    return torch.stack([L2Penalty.apply(p) for p in model.parameters() if p.ndim > 1]).sum()


def l1_penalty(model: nn.Module) -> torch.Tensor:
    """The sum of the absolute values of all weights; biases and normalisation, which have one dimension, are free."""
    return torch.stack([L1Penalty.apply(p) for p in model.parameters() if p.ndim > 1]).sum()
