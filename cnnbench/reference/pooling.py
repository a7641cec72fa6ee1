"""Pooling: each window of a map becomes one number: its largest, its smallest or its mean.

    X (N, C, H, W), windows of k x k pixels, stride s
    ->  Y (N, C, H', W'),   H' = floor((H - k) / s) + 1

    maximum     Y[i, j] = max over u, v of X[s i + u, s j + v]
    minimum     Y[i, j] = min over u, v of X[s i + u, s j + v]
    mean        Y[i, j] = sum over u, v of X[s i + u, s j + v] / (k k)

in each map of each image. The smallest number is the one whose negative is largest:
min(x) = -max(-x). Padding (padding.py) adds numbers that change nothing: -infinity before a
maximum, infinity before a minimum. Before a mean it adds zeros, which count like any pixel.

Backward, with dY the derivative of the loss with respect to each output. A small change of the
largest pixel of a window changes the output by the same amount; a change of another pixel does
nothing. In a mean, each pixel has a share of 1 / (k k). Where windows overlap, a pixel gets the sum
over its windows:

    maximum     dX[s i + u, s j + v] += dY[i, j]            only for the (u, v) of the largest pixel
    minimum     the same for the smallest: the signs in -max(-x) cancel
    mean        dX[s i + u, s j + v] += dY[i, j] / (k k)    for all (u, v)

If several pixels are largest, the first one counts, row by row. The maximum has no derivative
there, so this is a choice.

Cost for P = N C H' W' windows; there is nothing to learn:

    maximum, minimum    forward P (k k - 1) comparisons; backward P additions (here P k k, most of
                        them of zeros)
    mean                forward P (k k - 1) additions and P divisions; backward P divisions and
                        P k k additions
"""

from collections.abc import Sequence
from types import EllipsisType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cnnbench.reference.padding import pad

__all__ = [
    *("MaxPool", "MeanPool", "MinPool", "RegionMeans"),
    *("AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d", "MinPool2d"),
]

T = TypeVar("T")
Pair = Sequence[int]  # two numbers: for rows, for columns
Place = tuple[EllipsisType, slice, slice]


def _list_places(size: Pair, kernel_size: Pair, stride: Pair) -> list[Place]:
    """Return where each pixel (u, v) of a window lies in maps (N, C, H, W), row by row.

    A place selects the pixel in all windows at once.
    """
    (height, width), (down, right) = size, stride
    rows, cols = (height - kernel_size[0]) // down + 1, (width - kernel_size[1]) // right + 1
    return [
        (..., slice(u, u + down * rows, down), slice(v, v + right * cols, right))
        for u in range(kernel_size[0])
        for v in range(kernel_size[1])
    ]


class MaxPool(Function):
    """The maximum of each window: maps (N, C, H, W), kernel size, stride -> (N, C, H', W')."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, kernel_size: Pair, stride: Pair) -> torch.Tensor:
        ctx.shape, ctx.places = maps.shape, _list_places(maps.shape[2:], kernel_size, stride)
        largest = maps[ctx.places[0]].clone()
        argmax = torch.zeros_like(largest, dtype=torch.int32)  # pixel number in its window
        for number, place in enumerate(ctx.places[1:], start=1):
            candidate = maps[place]
            larger = (candidate > largest) | candidate.isnan()  # A nan must not be hidden.
            largest = torch.where(larger, candidate, largest)
            argmax.masked_fill_(larger, number)
        ctx.save_for_backward(argmax)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        argmax = ctx.saved_tensors[0]
        grad_maps = grad.new_zeros(ctx.shape)
        for number, place in enumerate(ctx.places):
            grad_maps[place] += grad * (argmax == number)
        return grad_maps, None, None


class MinPool(MaxPool):
    """The minimum of each window, with the shapes and the backward of `MaxPool`."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, kernel_size: Pair, stride: Pair) -> torch.Tensor:
        return -MaxPool.forward(ctx, -maps, kernel_size, stride)


class MeanPool(Function):
    """The mean of each window: maps (N, C, H, W), kernel size, stride -> (N, C, H', W')."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, kernel_size: Pair, stride: Pair) -> torch.Tensor:
        ctx.shape, ctx.places = maps.shape, _list_places(maps.shape[2:], kernel_size, stride)
        total = maps[ctx.places[0]].clone()
        for place in ctx.places[1:]:
            total += maps[place]
        return total / len(ctx.places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_maps, share = grad.new_zeros(ctx.shape), grad / len(ctx.places)
        for place in ctx.places:
            grad_maps[place] += share
        return grad_maps, None, None


def _split_rows(size: int, parts: int) -> list[slice]:
    """Split `size` rows into `parts` regions, which may overlap.

    Region i begins at floor(i size / parts) and ends before ceil((i + 1) size / parts).
    """
    return [slice(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]


class RegionMeans(Function):
    """The means of H' x W' regions: maps (N, C, H, W), size (H', W') -> (N, C, H', W').

    Size (1, 1) is global average pooling: one number for each map.
    """

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, size: Pair) -> torch.Tensor:
        ctx.shape = maps.shape
        means = maps.new_empty(*maps.shape[:2], *size)
        for i, rows in enumerate(_split_rows(maps.shape[2], size[0])):
            for j, cols in enumerate(_split_rows(maps.shape[3], size[1])):
                means[..., i, j] = maps[..., rows, cols].mean(dim=(2, 3))
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_maps = grad.new_zeros(ctx.shape)
        for i, rows in enumerate(_split_rows(ctx.shape[2], grad.shape[2])):
            for j, cols in enumerate(_split_rows(ctx.shape[3], grad.shape[3])):
                pixels = (rows.stop - rows.start) * (cols.stop - cols.start)
                grad_maps[..., rows, cols] += grad[..., i, j, None, None] / pixels
        return grad_maps, None


def _to_pair(value: T | Sequence[T]) -> Sequence[T]:
    return value if isinstance(value, Sequence) else (value, value)


SUPPORTED_OPTIONS = {
    "ceil_mode": False,
    "count_include_pad": True,
    "dilation": 1,
    "divisor_override": None,
    "return_indices": False,
}


def _prepare_arguments(
    layer: nn.MaxPool2d | nn.AvgPool2d, maps: torch.Tensor, value: float
) -> tuple[torch.Tensor, Pair, Pair]:
    """Return the arguments of a pooling operation: maps padded with `value`, kernel size, stride.

    Raises:
        ValueError: the layer has an option that the reference implementation does not have.
    """
    for name, supported in SUPPORTED_OPTIONS.items():
        option = getattr(layer, name, supported)
        if option != supported:
            raise ValueError(
                f"{layer}: {name}={option} is not implemented in the reference implementation. "
                f"Allowed: {supported}."
            )
    down, right = _to_pair(layer.padding)
    padded = pad(maps, (right, right, down, down), "constant", value)
    return padded, _to_pair(layer.kernel_size), _to_pair(layer.stride)


class MaxPool2d(nn.MaxPool2d):
    """The layer of PyTorch, computed by `MaxPool`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = MaxPool.apply(*_prepare_arguments(self, maps, -float("inf")))
        return outputs


class MinPool2d(nn.MaxPool2d):
    """The layer of LeNet with model.pooling=min, computed by `MinPool`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = MinPool.apply(*_prepare_arguments(self, maps, float("inf")))
        return outputs


class AvgPool2d(nn.AvgPool2d):
    """The layer of PyTorch, computed by `MeanPool`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = MeanPool.apply(*_prepare_arguments(self, maps, 0.0))
        return outputs


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """The layer of PyTorch, computed by `RegionMeans`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        rows, cols = _to_pair(self.output_size)  # None stands for the size of the maps.
        height = maps.shape[2] if rows is None else rows
        width = maps.shape[3] if cols is None else cols
        outputs: torch.Tensor = RegionMeans.apply(maps, (height, width))
        return outputs
