"""The affine layer, also called linear, dense or fully connected: every output is a weighted sum of all inputs.

    Y = X W^T + b              X (N, D), W (M, D), b (M)  ->  Y (N, M)

Backward. Let dY (N, M) be the derivative of the loss with respect to each output. As Y[n, m] is the sum over d of
X[n, d] W[m, d], and b[m], the chain rule gives

    dX = dY W                  (N, D)   an input is seen by all M outputs: sum over them
    dW = dY^T X                (M, D)   a weight is used for all N examples: sum over them
    db = sum of dY over n      (M)      likewise

Cost for N examples:

    forward     N M D multiplications, N M D additions (D - 1 for a sum of D products, one for the bias)
    backward    N M D of both for dX, as many for dW, and N M additions for db: twice as much as forward
"""

from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["Affine", "Linear"]


class Affine(Function):
    """inputs (N, D), weight (M, D), bias (M) or None to outputs (N, M)."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        outputs = inputs @ weight.T
        return outputs if bias is None else outputs + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        wanted_inputs, wanted_weight, wanted_bias = ctx.needs_input_grad
        return (
            grad @ weight if wanted_inputs else None,
            grad.T @ inputs if wanted_weight else None,
            grad.sum(dim=0) if wanted_bias else None,
        )


class Linear(nn.Linear):
    """The layer of the networks, with its parameters, computed by `Affine`."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        examples = inputs.reshape(-1, self.in_features)  # of (N, T, D) all N T
        outputs: torch.Tensor = Affine.apply(examples, self.weight, self.bias)
        return outputs.reshape(*inputs.shape[:-1], self.out_features)
