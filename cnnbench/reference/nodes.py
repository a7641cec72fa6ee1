"""The nodes of a computation graph without weights: arithmetic, concatenation, reshape; branches.

Forward, a node computes z from its inputs x and y. Backward it receives dz, the derivative of the
loss with respect to z. By the chain rule it passes to each input dz times the derivative of z with
respect to that input:

    sum             z = x + y           dx = dz         dy = dz     a shortcut passes gradients on
    product         z = x y             dx = dz y       dy = dz x   a gate scales one by the other
    quotient        z = x / y           dx = dz / y     dy = -dz z / y
    exponential     z = e^x             dx = dz z                   its derivative is itself
    concatenation   z = (x, y)          dx, dy: their parts of dz   an Inception or dense block
    reshape         z = x, rearranged   dx = dz, arranged as x      from maps to a row of features

A branch. If one value goes to several nodes, a change of it reaches the loss through all of them.
Its gradient is the sum of the gradients that these nodes pass back. For z = x x, a product of x
with itself, that is dx = dz x + dz x = 2 x dz.

Shapes may differ as in tensor arithmetic. Where x has one number along an axis and y has many, the
number is used for all of them, for instance a scale (N, C, 1, 1) of maps (N, C, H, W). That is a
branch too: dx is the sum along the axis.

The sigmoid y = 1 / (1 + e^-x) is a graph of four nodes. Forward is down, backward is up:

    value           node            gradient
    x                                dy e^-x / u^2
    -x              product         -dy e^-x / u^2
    e^-x            exponential     -dy / u^2
    u = 1 + e^-x    sum             -dy / u^2
    y = 1 / u       quotient         dy

The result, dy e^-x / u^2 = dy y (1 - y), is what activations.py computes in one step from y alone.
The graph also overflows where that does not: for x = -1000, e^-x is infinite, and the gradient, 0
times infinity, is not a number.

Cost for D numbers of z: a sum takes D additions forward; a product takes D multiplications forward,
and D backward for each input. A quotient takes D divisions forward, D backward for dx, and D
multiplications more for dy. An exponential takes D exponentials forward, D multiplications
backward. The others compute nothing.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["Add", "Concatenate", "Divide", "Exp", "Flatten", "Multiply", "Reshape"]


class Add(Function):
    """The sum: x, y -> x + y."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        ctx.shapes = x.shape, y.shape
        return x + y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        wanted_x, wanted_y = ctx.needs_input_grad
        shape_x, shape_y = ctx.shapes
        grad_x = grad.sum_to_size(shape_x) if wanted_x else None
        grad_y = grad.sum_to_size(shape_y) if wanted_y else None
        return grad_x, grad_y


class Multiply(Function):
    """The elementwise product: x, y -> x y."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y = ctx.saved_tensors
        wanted_x, wanted_y = ctx.needs_input_grad
        grad_x = (grad * y).sum_to_size(x.shape) if wanted_x else None
        grad_y = (grad * x).sum_to_size(y.shape) if wanted_y else None
        return grad_x, grad_y


class Divide(Function):
    """The elementwise quotient: x, y -> x / y."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        outputs = x / y
        ctx.save_for_backward(y, outputs)
        ctx.shape = x.shape
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        y, outputs = ctx.saved_tensors
        wanted_x, wanted_y = ctx.needs_input_grad
        quotient = grad / y
        grad_x = quotient.sum_to_size(ctx.shape) if wanted_x else None
        grad_y = -(quotient * outputs).sum_to_size(y.shape) if wanted_y else None
        return grad_x, grad_y


class Exp(Function):
    """The exponential: x -> e^x."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        outputs = x.exp()
        ctx.save_for_backward(outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = ctx.saved_tensors[0]
        return grad * outputs


class Concatenate(Function):
    """The concatenation: maps (N, C1, H, W), (N, C2, H, W), ... -> (N, C1 + C2 + ..., H, W)."""

    @staticmethod
    def forward(ctx: Any, *maps: torch.Tensor) -> torch.Tensor:
        ctx.channels = [tensor.shape[1] for tensor in maps]
        return torch.cat(maps, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        parts = torch.split(grad, ctx.channels, dim=1)
        # Autograd drops the gradients that no input needs.
        return tuple(parts)


class Reshape(Function):
    """The same numbers in another shape: x, shape -> (*shape)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        ctx.shape = x.shape
        return x.reshape(shape).clone()  # The next layer may change its inputs in place.

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return grad.reshape(ctx.shape), None


class Flatten(nn.Flatten):
    """The layer of PyTorch, computed by `Reshape`: maps (N, C, H, W) -> features (N, C H W)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        first, after = self.start_dim, self.end_dim % maps.ndim + 1
        flat = math.prod(maps.shape[first:after])
        shape = (*maps.shape[:first], flat, *maps.shape[after:])
        features: torch.Tensor = Reshape.apply(maps, shape)
        return features
