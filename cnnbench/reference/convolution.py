"""Convolution, which networks compute as cross-correlation: a weighted sum of each window.

    Y[n, m, i, j] = b[m] + sum over c, u, v of X[n, c, s i + u, s j + v] W[m, c, u, v]

    X (N, C, H, W), W (M, C, k, k), b (M), stride s  ->  Y (N, M, H', W')

True convolution turns the kernel by 180 degrees first. It reads
X[n, c, s i + k - 1 - u, s j + k - 1 - v] in place of the pixel above. Kernels are learned, so a
network may use either: it learns the same kernels, turned.

Size. Window i begins at row s i and takes k rows. With p rows of padding above and below
(padding.py) there are H + 2p rows. The last window has the largest i with s i + k <= H + 2p, which
is floor((H + 2p - k) / s). As i counts from 0,

    H' = floor((H + 2p - k) / s) + 1

One matrix product (im2col). Write the K = C k k pixels of each of the P = N H' W' windows as a
column, and each kernel as a row. Then all outputs are

    columns = im2col(X)         (K, P)
    Y = W columns + b           (M, P)      with W as (M, K)

Backward, with dY (M, P), the derivative of the loss with respect to each output. The matrix product
has the derivatives of an affine layer. A pixel is copied into every window that contains it, so its
gradient is the sum of the gradients of its copies, which col2im computes:

    dW = dY columns^T           (M, K)      a weight is used in every window: sum over them
    db = sum of dY over P       (M)         a bias is used in every window: sum over them
    dX = col2im(W^T dY)         (N, C, H, W)

A 1x1 convolution has windows of one pixel. Its columns are the pixels themselves. It is an affine
layer from C to M channels, the same one for each pixel: see `pointwise`.

Groups. With g groups, the first M / g kernels see the first C / g channels only, and so on: g
convolutions side by side. A window has K = (C / g) k k pixels in each group, and the product
becomes g products.

Cost:

    forward     M P K multiplications and M P K additions: K - 1 for a sum of K products, one for
                the bias
    backward    M P K of both for dW, M P K of both for W^T dY, M P additions for db, g K P
                additions in col2im: about twice as much as forward
    memory      about k k / (s s) times that of the image for the columns, and as much for their
                gradients. The columns are not kept between forward and backward. They are computed
                again from the image, which takes time but saves memory.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cnnbench.reference.padding import pad

__all__ = [
    *("col2im", "convolve", "cross_correlate_loops", "im2col", "output_size", "pointwise"),
    *("Conv2d", "CrossCorrelation"),
]

Pair = Sequence[int]  # two numbers: for rows, for columns


def output_size(size: int, kernel_size: int, stride: int = 1, padding: int = 0) -> int:
    """Return how many windows fit into `size` rows or columns with `padding` more on both sides.

    Raises:
        ValueError: if no window fits.
    """
    if kernel_size > size + 2 * padding:
        raise ValueError(
            f"A kernel of {kernel_size} does not fit into {size} pixels "
            f"with a padding of {padding}."
        )
    return (size + 2 * padding - kernel_size) // stride + 1


def cross_correlate_loops(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Pair = (1, 1),
) -> torch.Tensor:
    """Compute the definition of cross-correlation term by term.

    images (N, C, H, W), weight (M, C, kh, kw), bias (M) or None -> (N, M, H', W')
    """
    count, _, height, width = images.shape
    maps, _, kernel_height, kernel_width = weight.shape
    rows = output_size(height, kernel_height, stride[0])
    columns = output_size(width, kernel_width, stride[1])
    outputs = images.new_zeros(count, maps, rows, columns)
    for n in range(count):
        for m in range(maps):
            for i in range(rows):
                for j in range(columns):
                    top, left = stride[0] * i, stride[1] * j
                    window = images[n, :, top : top + kernel_height, left : left + kernel_width]
                    outputs[n, m, i, j] = (window * weight[m]).sum()
                    if bias is not None:
                        outputs[n, m, i, j] += bias[m]
    return outputs


def convolve(images: torch.Tensor, weight: torch.Tensor, stride: Pair = (1, 1)) -> torch.Tensor:
    """Compute true convolution: cross-correlation with the kernels turned by 180 degrees.

    images (N, C, H, W), weight (M, C, kh, kw) -> (N, M, H', W')
    """
    outputs: torch.Tensor = CrossCorrelation.apply(images, weight.flip(2, 3), None, stride, 1)
    return outputs


def pointwise(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Compute a 1x1 convolution as an affine layer of the channels of each pixel.

    images (N, C, H, W), weight (M, C), bias (M) -> (N, M, H, W)
    Y[n, :, i, j] = W X[n, :, i, j] + b
    """
    pixels = images.permute(0, 2, 3, 1)  # (N, H, W, C)
    return (pixels @ weight.T + bias).permute(0, 3, 1, 2)


def im2col(images: torch.Tensor, kernel_size: Pair, stride: Pair) -> torch.Tensor:
    """Return every window of images (N, C, H, W) as a column: (C, kh, kw, N, H', W').

    These are K = C kh kw rows and P = N H' W' columns.
    """
    count, channels, height, width = images.shape
    down, right = stride
    rows = output_size(height, kernel_size[0], down)
    cols = output_size(width, kernel_size[1], right)
    columns = images.new_empty(channels, *kernel_size, count, rows, cols)
    by_channel = images.transpose(0, 1)  # (C, N, H, W)
    for u in range(kernel_size[0]):
        for v in range(kernel_size[1]):  # pixel (u, v) of all windows at once
            within_rows = slice(u, u + down * rows, down)
            within_cols = slice(v, v + right * cols, right)
            columns[:, u, v] = by_channel[:, :, within_rows, within_cols]
    return columns


def col2im(columns: torch.Tensor, size: Pair, stride: Pair) -> torch.Tensor:
    """Add up columns into images: the transpose of `im2col`.

    columns (C, kh, kw, N, H', W'), size (H, W) -> (N, C, H, W)
    A pixel of several windows gets the sum of its copies.
    """
    channels, *kernel_size, count, rows, cols = columns.shape
    down, right = stride
    by_channel = columns.new_zeros(channels, count, *size)  # (C, N, H, W)
    for u in range(kernel_size[0]):
        for v in range(kernel_size[1]):  # pixel (u, v) of all windows at once
            within_rows = slice(u, u + down * rows, down)
            within_cols = slice(v, v + right * cols, right)
            by_channel[:, :, within_rows, within_cols] += columns[:, u, v]
    return by_channel.transpose(0, 1)


class CrossCorrelation(Function):
    """Cross-correlation by im2col and one matrix product for each group.

    images (N, C, H, W), weight (M, C / groups, kh, kw), bias (M) or None, stride, groups
    -> (N, M, H', W')
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: Pair,
        groups: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.groups = stride, groups
        columns = im2col(images, weight.shape[2:], stride)
        *_, count, rows, cols = columns.shape
        kernels = weight.reshape(groups, len(weight) // groups, -1)  # (g, M / g, K)
        products = kernels @ columns.view(groups, kernels.shape[2], -1)  # (g, M / g, P)
        # (N, M, H', W')
        outputs = products.view(-1, count, rows, cols).transpose(0, 1).contiguous()
        if bias is not None:
            outputs += bias[:, None, None]
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        kernel_size, groups = weight.shape[2:], ctx.groups
        wanted_images, wanted_weight, wanted_bias, *_ = ctx.needs_input_grad
        grad_images = grad_weight = grad_bias = None
        count, maps, rows, cols = grad.shape
        by_map = grad.transpose(0, 1).reshape(groups, maps // groups, -1)  # (g, M / g, P)
        if wanted_images:
            kernels = weight.reshape(groups, maps // groups, -1)  # (g, M / g, K)
            columns = kernels.transpose(1, 2) @ by_map  # (g, K, P)
            columns = columns.view(-1, *kernel_size, count, rows, cols)
            grad_images = col2im(columns, images.shape[2:], ctx.stride)
        if wanted_weight:
            columns = im2col(images, kernel_size, ctx.stride)
            columns = columns.view(groups, -1, by_map.shape[2])  # (g, K, P)
            grad_weight = (by_map @ columns.transpose(1, 2)).view(weight.shape)
        if wanted_bias:
            grad_bias = by_map.sum(dim=2).flatten()
        return grad_images, grad_weight, grad_bias, None, None


class Conv2d(nn.Conv2d):
    """The layer of PyTorch with the same parameters, computed by `pad` and `CrossCorrelation`.

    Raises:
        ValueError: in forward, if `dilation` is not 1.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.dilation != (1, 1):
            raise ValueError(
                f"{self}: dilation is not implemented in the reference implementation. "
                "Allowed: dilation=1."
            )
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        left, right, top, bottom = self._reversed_padding_repeated_twice
        padded = pad(images, (left, right, top, bottom), mode)
        outputs: torch.Tensor = CrossCorrelation.apply(
            padded, self.weight, self.bias, self.stride, self.groups
        )
        return outputs
