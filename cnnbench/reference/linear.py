"""The affine layer (linear, dense, fully connected): each output is a weighted sum of all inputs.

    Y = X W^T + b              X (N, D), W (M, D), b (M)  ->  Y (N, M)

Backward. Let dY (N, M) be the derivative of the loss with respect to each output. Y[n, m] is b[m]
plus the sum over d of X[n, d] W[m, d], so the chain rule gives

    dX = dY W                  (N, D)   all M outputs use an input: sum over them
    dW = dY^T X                (M, D)   all N examples use a weight: sum over them
    db = sum of dY over n      (M)      all N examples use a bias: sum over them

Cost for N examples:

    forward     N M D multiplications and N M D additions: D - 1 for a sum of D products, one for
                the bias
    backward    N M D of both for dX, N M D of both for dW, and N M additions for db: twice as much
                as forward
"""

from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["Affine", "Linear"]


class Affine(Function):
    """The affine map: inputs (N, D), weight (M, D), bias (M) or None -> outputs (N, M)."""

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
        grad_inputs = grad @ weight if wanted_inputs else None
        grad_weight = grad.T @ inputs if wanted_weight else None
        grad_bias = grad.sum(dim=0) if wanted_bias else None
        return grad_inputs, grad_weight, grad_bias


class Linear(nn.Linear):
    """The layer of PyTorch with the same parameters, computed by `Affine`."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        examples = inputs.reshape(-1, self.in_features)  # Inputs (N, T, D) are N T examples.
        outputs: torch.Tensor = Affine.apply(examples, self.weight, self.bias)
        return outputs.reshape(*inputs.shape[:-1], self.out_features)
