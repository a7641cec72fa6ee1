"""Convolution, batch normalization and pooling with the batch last: maps (T, C, H, W, N).

Each of T threads has N examples. PyTorch divides the work along the first dimension, so that a
thread finds its examples in its own cache. `batch_last.py` says what this is for.

The maps of a batch are larger than the caches. So results overwrite tensors that are no longer
needed: backward passes those that forward passes have saved. A graph is thus good for one backward
pass, and maps given to `BatchNorm` and `Activation` are used up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["IN_PLACE", "Activation", "AvgPool", "BatchNorm", "Convolution", "MaxPool", "Windows"]

Gradients = tuple[torch.Tensor | None, ...]


@dataclass(frozen=True)
class Windows:
    """The windows of w x w pixels, w = kernel + 1, that four pooled outputs see. Their step is 2.

    The kernel is k x k, its stride 1, and the pooling 2 x 2.
    """

    kernel: int
    padding: int

    @property
    def size(self) -> int:
        return self.kernel + 1

    def count(self, side: int) -> int:
        """Return how many windows there are along a side of padded maps."""
        return (side - self.size) // 2 + 1

    def view(self, maps: torch.Tensor) -> torch.Tensor:
        """Return a view (T, C, w, w, H', W', N) of padded maps (T, C, H, W, N)."""
        threads, channels, height, width, examples = maps.shape
        sizes = (threads, channels, self.size, self.size, self.count(height), self.count(width))
        thread, plane, row, column, example = maps.stride()
        strides = (thread, plane, row, column, 2 * row, 2 * column, example)
        return maps.as_strided((*sizes, examples), strides, maps.storage_offset())

    def kernels(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return a view (2, 2, C', C, k, k) of the kernels in a matrix (4 C', C w w + 1).

        Each of the 2 x 2 outputs has the kernel at its own place in the window.
        """
        rows, columns = matrix.shape
        outputs, channels = rows // 4, columns // self.size**2
        down, right = 2 * outputs * columns + self.size, outputs * columns + 1
        strides = (down, right, columns, self.size**2, self.size, 1)
        sizes = (2, 2, outputs, channels, self.kernel, self.kernel)
        return matrix.as_strided(sizes, strides)

    def fold(self, columns: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Add windows (T, C w w, H' W' N) to maps (T, C, H, W, N) of zeros, each at its place."""
        threads, channels, height, width, examples = shape
        down, right, size = self.count(height), self.count(width), self.size
        windows = columns.view(threads, channels, size, size, down, right, examples)
        blocks = columns.new_zeros(
            (threads, channels, (height + 1) // 2, 2, (width + 1) // 2, 2, examples)
        )
        starts = range(0, size, 2)
        for top, left in product(starts, starts):
            part = windows[:, :, top : top + 2, left : left + 2]
            row, column = top // 2, left // 2
            into = blocks[:, :, row : row + down, : part.shape[2], column : column + right]
            into[:, :, :, :, :, : part.shape[3]] += part.permute(0, 1, 4, 2, 5, 3, 6)
        return blocks.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]


class Convolution(Function):
    """Convolve maps (T, C, H, W, N) to (T, 4, C', H', W', N), the four outputs to be pooled."""

    @staticmethod
    def forward(
        ctx: Any, maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, windows: Windows
    ) -> torch.Tensor:
        padded = functional.pad(maps, (0, 0, *[windows.padding] * 4))
        view = windows.view(padded)
        threads, pixels, places = len(maps), view.shape[1:4].numel(), view.shape[4:]
        columns = maps.new_empty(threads, pixels + 1, places.numel())
        columns[:, :-1].view(view.shape).copy_(view)
        columns[:, -1] = 1  # times the bias
        matrix = maps.new_zeros(4 * len(weight), pixels + 1)
        windows.kernels(matrix).copy_(weight)
        matrix[:, -1] = bias.repeat(4)
        ctx.save_for_backward(columns, matrix)
        ctx.windows, ctx.padded_shape, ctx.dtype = windows, padded.shape, weight.dtype
        outputs = maps.new_empty(threads, 4, len(weight), *places)
        torch.bmm(
            matrix.expand(threads, -1, -1), columns, out=outputs.view(threads, len(matrix), -1)
        )
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        columns, matrix = ctx.saved_tensors
        windows, padding = ctx.windows, ctx.windows.padding
        grad = grad.reshape(len(columns), len(matrix), -1)
        grad_matrix = grad.bmm(columns.mT).sum(0, dtype=ctx.dtype)
        grad_weight = windows.kernels(grad_matrix).sum((0, 1))
        grad_bias = grad_matrix[:, -1].view(4, -1).sum(0)
        grad_maps = None
        if ctx.needs_input_grad[0]:
            transposed = matrix.t().expand(len(columns), -1, -1)
            torch.bmm(transposed, grad, out=columns)
            grad_padded = windows.fold(columns[:, :-1], ctx.padded_shape)
            height, width = grad_padded.shape[2:4]
            grad_maps = grad_padded[:, :, padding : height - padding, padding : width - padding]
        return grad_maps, grad_weight, grad_bias, None


class BatchNorm(Function):
    """Normalize (T, 4, C, H, W, N) by mean and variance of each channel; return these, too."""

    @staticmethod
    def forward(
        ctx: Any, maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        centered = maps.flatten(3)  # (T, 4, C, M)
        mean = _mean(centered, weight.dtype)
        centered -= _column(mean, centered)
        outputs = torch.empty_like(maps)
        normalized = outputs.view(centered.shape)
        variance = _mean(torch.square(centered, out=normalized), weight.dtype)
        scale = (variance + eps).rsqrt()
        torch.mul(centered, _column(scale * weight, centered), out=normalized)
        normalized += _column(bias, centered)
        ctx.save_for_backward(maps, weight, scale)
        ctx.mark_non_differentiable(mean, variance)
        return outputs, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, *_: torch.Tensor) -> Gradients:
        maps, weight, scale = ctx.saved_tensors
        centered = maps.flatten(3)
        planes = grad.flatten(3)
        count = planes[:, :, 0].numel()
        mean_grad = _mean(planes, weight.dtype)
        products = planes * centered
        mean_product = _mean(products, weight.dtype)
        factor = weight * scale
        grad_maps = centered.mul_(_column(-factor * scale.square() * mean_product, planes))
        grad_maps += torch.mul(planes, _column(factor, planes), out=products)
        grad_maps -= _column(factor * mean_grad, planes)
        return grad_maps.view(grad.shape), count * scale * mean_product, count * mean_grad, None


def _mean(planes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the mean (C) of each channel of planes (T, 4, C, M)."""
    return planes.sum(3, dtype=dtype).sum((0, 1)) / planes[:, :, 0].numel()


def _column(values: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
    """Return values (C) in a shape that broadcasts over planes (T, 4, C, M), and in their type."""
    return values[:, None].to(planes.dtype)


class Activation(Function):
    """Apply an activation, one of the layers of `IN_PLACE`, to maps of any shape in place."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, layer: type[nn.Module]) -> torch.Tensor:
        apply, ctx.differentiate = IN_PLACE[layer]
        ctx.mark_dirty(maps)
        ctx.save_for_backward(apply(maps))
        return maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        (outputs,) = ctx.saved_tensors
        return ctx.differentiate(grad, outputs, grad_input=outputs), None


def _differentiate_relu(grad: torch.Tensor, outputs: torch.Tensor, grad_input: torch.Tensor) -> Any:
    return torch.ops.aten.threshold_backward(grad, outputs, 0, grad_input=grad_input)


# by layer: what applies it in place, and what computes its gradient from outputs
IN_PLACE: dict[type[nn.Module], tuple[Callable[..., torch.Tensor], Callable[..., Any]]] = {
    nn.ReLU: (torch.relu_, _differentiate_relu),
    nn.Sigmoid: (torch.sigmoid_, torch.ops.aten.sigmoid_backward),
    nn.Tanh: (torch.tanh_, torch.ops.aten.tanh_backward),
}


class AvgPool(Function):
    """Average (T, 4, C, H, W, N) over the second dimension."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor) -> torch.Tensor:
        ctx.shape = maps.shape
        first, second, third, fourth = maps.unbind(1)
        return (first + second).add_(third).add_(fourth).mul_(0.25)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return (grad.contiguous() * 0.25).unsqueeze(1).expand(ctx.shape)


class MaxPool(Function):
    """Take the maximum of (T, 4, C, H, W, N) over the second dimension.

    Of equal values the first one gets the gradient, as in nn.MaxPool2d.
    """

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor) -> torch.Tensor:
        first, second, third, fourth = maps.unbind(1)
        of_two = torch.maximum(first, second)
        of_three = torch.maximum(of_two, third)
        ctx.save_for_backward(maps, of_two, of_three)
        return torch.maximum(of_three, fourth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        grad = grad.contiguous()
        maps: torch.Tensor
        maps, of_two, of_three = ctx.saved_tensors
        first, second, third, fourth = maps.unbind(1)
        for later, before in ((fourth, of_three), (third, of_two), (second, first)):
            excess = later.sub_(before)
            # threshold_backward is the gradient where `excess` is above 0, and 0 elsewhere.
            torch.ops.aten.threshold_backward(grad, excess, 0, grad_input=later)
            grad = grad - later
        first.copy_(grad)
        return maps
