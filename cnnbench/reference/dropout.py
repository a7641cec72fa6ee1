"""Dropout: in training, each number is dropped with probability p; in evaluation, none is.

    Y = X * mask       each number of the mask by itself: 0 with probability p, else 1 / (1 - p)

X, Y and the mask have the same shape, which is any. A network that may lose any of its units at any
step cannot rely on a few of them working together.

Why 1 / (1 - p). The next layer sums over its inputs. If the kept inputs were passed on unchanged,
each would be (1 - p) x on average in training, but x in evaluation. In evaluation the sums would be
larger by the factor 1 / (1 - p) than those the layer has learned from. Division by the probability
to be kept makes the averages equal:

    E[y] = p 0 + (1 - p) x / (1 - p) = x

and evaluation has nothing to do: Y = X. This is called inverted dropout. The original (Srivastava
et al. 2014) divides nothing in training and multiplies the weights of the next layer by 1 - p in
evaluation, which is the same as multiplying its inputs:

    in training     Y = X * mask    each number of the mask: 0 with probability p, else 1
    in evaluation   Y = (1 - p) X   the average in training: E[y] = p 0 + (1 - p) x

Both forms have in evaluation the average that they have in training, for p < 1. With the same mask,
the outputs of the original are those of inverted dropout times 1 - p. For p = 1 all numbers are
dropped, and Y = 0; the original also drops them in evaluation.

Backward. The mask is a constant: dX = dY * mask. Dropped numbers get no gradient.

Cost for each number: forward a random number and 1 multiplication, and 1 division for the mask of
inverted dropout; backward 1 multiplication. In evaluation, nothing for inverted dropout and 1
multiplication for the original.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["Dropout", "InvertedDropout", "OriginalDropout"]


class InvertedDropout(Function):
    """Dropout in training: inputs of any shape, p in [0, 1] -> outputs of the same shape.

    On the CPU the mask is the one that torch draws from the same seed. With p = 0 or 1 no random
    numbers are drawn.
    """

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, p: float) -> torch.Tensor:
        mask = torch.full_like(inputs, 1 - p)
        if 0 < p < 1:
            mask.bernoulli_(1 - p).div_(1 - p)
        ctx.save_for_backward(mask)
        return inputs * mask

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mask: torch.Tensor = ctx.saved_tensors[0]
        return grad * mask, None


class OriginalDropout(Function):
    """Dropout that scales in evaluation: inputs of any shape, p, training -> the same shape.

    In training a number of the mask is 0 with probability p, else 1. In evaluation it is 1 - p.
    """

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, p: float, training: bool) -> torch.Tensor:
        mask = torch.full_like(inputs, 1 - p)
        if training:
            mask.bernoulli_(1 - p)
        ctx.save_for_backward(mask)
        return inputs * mask

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mask: torch.Tensor = ctx.saved_tensors[0]
        return grad * mask, None, None


class Dropout(nn.Dropout):
    """The layer of PyTorch, computed by `InvertedDropout` in training.

    With `inplace` the outputs overwrite the inputs.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return inputs
        outputs: torch.Tensor = InvertedDropout.apply(inputs, self.p)
        return inputs.copy_(outputs) if self.inplace else outputs
