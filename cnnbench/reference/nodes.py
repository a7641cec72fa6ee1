"""The nodes of a computation graph without weights: sum, product, concatenation, another shape; and branches.

Forward, a node computes z of its inputs x and y. Backward it is given dz, the derivative of the loss with respect to z.
By the chain rule it hands to each input dz times the derivative of z with respect to that input:

    sum             z = x + y           dx = dz         dy = dz         a shortcut: gradients pass unchanged
    product         z = x y             dx = dz y       dy = dz x       a gate: each is scaled by the other
    concatenation   z = (x, y)          dx, dy: their parts of dz       an Inception or a dense block
    another shape   z = x, rearranged   dx = dz, arranged as x          from maps to a row of features

A branch. If one value goes to several nodes, a change of it reaches the loss on all of these ways, so its gradient is
the sum of what they hand back. For z = x x, a product of x with itself, that is dx = dz x + dz x = 2 x dz.

Shapes may differ as in tensor arithmetic: where x has one number along an axis on which y has many, it is used for all
of them, for instance a scale (N, C, 1, 1) of maps (N, C, H, W). That is a branch too: dx is the sum along the axis.

Cost for D numbers of z: a sum takes D additions forward; a product D multiplications forward, and D backward for each
input; the others compute nothing.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = [
    *("Add", "Concatenate", "Multiply", "Reshape"),
    *("Flatten",),
]


class Add(Function):
    """x and y to x + y."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        ctx.shapes = x.shape, y.shape
        return x + y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        wanted_x, wanted_y = ctx.needs_input_grad
        shape_x, shape_y = ctx.shapes
        return grad.sum_to_size(shape_x) if wanted_x else None, grad.sum_to_size(
            shape_y
        ) if wanted_y else None


class Multiply(Function):
    """x and y to x y, number by number."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y = ctx.saved_tensors
        wanted_x, wanted_y = ctx.needs_input_grad
        return (
            (grad * y).sum_to_size(x.shape) if wanted_x else None,
            (grad * x).sum_to_size(y.shape) if wanted_y else None,
        )


class Concatenate(Function):
    """Maps (N, C1, H, W), (N, C2, H, W), ... to (N, C1 + C2 + ..., H, W)."""

    @staticmethod
    def forward(ctx: Any, *maps: torch.Tensor) -> torch.Tensor:
        ctx.channels = [each.shape[1] for each in maps]
        return torch.cat(maps, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        parts = torch.split(grad, ctx.channels, dim=1)
        return tuple(
            part if wanted else None
            for part, wanted in zip(parts, ctx.needs_input_grad, strict=True)
        )


class Reshape(Function):
    """x to the same numbers in another shape."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        ctx.shape = x.shape
        return x.reshape(shape).clone()  # what follows may work in place

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return grad.reshape(ctx.shape), None


class Flatten(nn.Flatten):
    """The layer of the networks, computed by `Reshape`: maps (N, C, H, W) to features (N, C H W)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        first, after = self.start_dim, self.end_dim % maps.ndim + 1
        flat = math.prod(maps.shape[first:after])
        features: torch.Tensor = Reshape.apply(
            maps, (*maps.shape[:first], flat, *maps.shape[after:])
        )
        return features
