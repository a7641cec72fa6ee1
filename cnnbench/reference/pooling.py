"""Pooling: each window of a map becomes one number, its largest, its smallest or its mean.

    X (N, C, H, W), windows of k x k pixels, stride s  ->  Y (N, C, H', W'),   H' = floor((H - k) / s) + 1

    maximum     Y[i, j] = max over u, v of X[s i + u, s j + v]
    minimum     Y[i, j] = min over u, v of X[s i + u, s j + v]
    mean        Y[i, j] = sum over u, v of X[s i + u, s j + v] / (k k)

in each map of each image. The smallest number is the one whose negative is largest: min(x) = -max(-x). Padding
(padding.py) adds what changes nothing: -infinity before a maximum, infinity before a minimum. Before a mean it adds
zeros, which count like any pixel.

Backward, with dY the derivative of the loss with respect to each output. A small change of the largest pixel of a
window changes the output as much, that of another one does nothing; of the mean, each pixel has a share of 1 / (k k).
Where windows overlap, a pixel adds up what it has from each:

    maximum     dX[s i + u, s j + v] += dY[i, j]            for the (u, v) of the largest pixel alone
    minimum     the same for the smallest: the signs in -max(-x) cancel
    mean        dX[s i + u, s j + v] += dY[i, j] / (k k)    for all (u, v)

Of several largest pixels it is the first, row by row. There the maximum has no derivative, and this is a choice.

Cost for P = N C H' W' windows; there is nothing to learn:

    maximum, minimum    forward P (k k - 1) comparisons; backward P additions (here P k k, most of them of zeros)
    mean                forward P (k k - 1) additions and P divisions; backward P divisions and P k k additions
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
Pair = Sequence[int]  # of two, for rows and for columns
Place = tuple[EllipsisType, slice, slice]


def places(size: Pair, kernel_size: Pair, stride: Pair) -> list[Place]:
    """For each pixel (u, v) of a window, row by row: where in maps (N, C, H, W) it lies, in all windows at once."""
    (height, width), (down, right) = size, stride
    rows, cols = (height - kernel_size[0]) // down + 1, (width - kernel_size[1]) // right + 1
    return [
        (..., slice(u, u + down * rows, down), slice(v, v + right * cols, right))
        for u in range(kernel_size[0])
        for v in range(kernel_size[1])
    ]


class MaxPool(Function):
    """maps (N, C, H, W), kernel size, stride to (N, C, H', W')."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, kernel_size: Pair, stride: Pair) -> torch.Tensor:
        ctx.shape, ctx.places = maps.shape, places(maps.shape[2:], kernel_size, stride)
        largest = maps[ctx.places[0]].clone()
        where = torch.zeros_like(largest, dtype=torch.int32)  # which of the pixels of its window
        for number, place in enumerate(ctx.places[1:], start=1):
            candidate = maps[place]
            larger = (
                candidate > largest
            ) | candidate.isnan()  # what is not a number must not be hidden
            largest = torch.where(larger, candidate, largest)
            where.masked_fill_(larger, number)
        ctx.save_for_backward(where)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        where = ctx.saved_tensors[0]
        of_maps = grad.new_zeros(ctx.shape)
        for number, place in enumerate(ctx.places):
            of_maps[place] += grad * (where == number)
        return of_maps, None, None


class MinPool(MaxPool):
    """As `MaxPool` for the smallest; its backward is the same."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, kernel_size: Pair, stride: Pair) -> torch.Tensor:
        return -MaxPool.forward(ctx, -maps, kernel_size, stride)


class MeanPool(Function):
    """maps (N, C, H, W), kernel size, stride to (N, C, H', W')."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, kernel_size: Pair, stride: Pair) -> torch.Tensor:
        ctx.shape, ctx.places = maps.shape, places(maps.shape[2:], kernel_size, stride)
        total = maps[ctx.places[0]].clone()
        for place in ctx.places[1:]:
            total += maps[place]
        return total / len(ctx.places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_maps, share = grad.new_zeros(ctx.shape), grad / len(ctx.places)
        for place in ctx.places:
            of_maps[place] += share
        return of_maps, None, None


def regions(size: int, parts: int) -> list[slice]:
    """`size` rows in so many regions: the i-th from floor(i size / parts) up to ceil((i + 1) size / parts)."""
    return [slice(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]


class RegionMeans(Function):
    """maps (N, C, H, W) and a size (H', W') to the means of so many regions of each: (N, C, H', W').

    (1, 1) is global average pooling: one number for each map.
    """

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, size: Pair) -> torch.Tensor:
        ctx.shape = maps.shape
        means = maps.new_empty(*maps.shape[:2], *size)
        for i, rows in enumerate(regions(maps.shape[2], size[0])):
            for j, cols in enumerate(regions(maps.shape[3], size[1])):
                means[..., i, j] = maps[..., rows, cols].mean(dim=(2, 3))
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_maps = grad.new_zeros(ctx.shape)
        for i, rows in enumerate(regions(ctx.shape[2], grad.shape[2])):
            for j, cols in enumerate(regions(ctx.shape[3], grad.shape[3])):
                pixels = (rows.stop - rows.start) * (cols.stop - cols.start)
                of_maps[..., rows, cols] += grad[..., i, j, None, None] / pixels
        return of_maps, None


def pair(value: T | Sequence[T]) -> Sequence[T]:
    return value if isinstance(value, Sequence) else (value, value)


ONLY = {
    "ceil_mode": False,
    "count_include_pad": True,
    "dilation": 1,
    "divisor_override": None,
    "return_indices": False,
}


def arguments(
    layer: nn.MaxPool2d | nn.AvgPool2d, maps: torch.Tensor, value: float
) -> tuple[torch.Tensor, Pair, Pair]:
    """What the operation of a layer is given: the maps, padded with `value`, its kernel size and its stride."""
    for name, only in ONLY.items():
        if getattr(layer, name, only) != only:
            raise ValueError(
                f"{layer}: {name}={getattr(layer, name)} is not written by hand. Allowed: {only}."
            )
    down, right = pair(layer.padding)
    return (
        pad(maps, (right, right, down, down), "constant", value),
        pair(layer.kernel_size),
        pair(layer.stride),
    )


class MaxPool2d(nn.MaxPool2d):
    """The layer of the networks, computed by `MaxPool`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = MaxPool.apply(*arguments(self, maps, -float("inf")))
        return outputs


class MinPool2d(nn.MaxPool2d):
    """The layer of LeNet with model.pooling=min, computed by `MinPool`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = MinPool.apply(*arguments(self, maps, float("inf")))
        return outputs


class AvgPool2d(nn.AvgPool2d):
    """The layer of the networks, computed by `MeanPool`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = MeanPool.apply(*arguments(self, maps, 0.0))
        return outputs


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """The layer of the networks, computed by `RegionMeans`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        wanted = zip(pair(self.output_size), maps.shape[2:], strict=True)
        outputs: torch.Tensor = RegionMeans.apply(
            maps, [own if size is None else size for size, own in wanted]
        )
        return outputs
