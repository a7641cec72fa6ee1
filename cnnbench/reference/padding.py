"""Padding: rows and columns around an image, so that windows also fit at its border.

    images (N, C, H, W), sides (left, right, top, bottom)
    ->  (N, C, top + H + bottom, left + W + right)

The new pixels, for a row of pixels a b c d and two more on each side:

    constant    0 0 a b c d 0 0     zeros, or any other number
    reflect     c b a b c d c b     mirrored; the outermost pixel is the mirror and is not repeated
    replicate   a a a b c d d d     the outermost pixel again and again
    circular    c d a b c d a b     as if the image were repeated without end

All modes but the first copy pixels. Columns are padded in the same way as rows, so a rule for rows
is enough: which row each new one copies.

    Y[p] = X[source(p)]         p from 0 to top + H + bottom - 1

Backward, with dY the derivative of the loss with respect to each pixel of Y. A copied pixel acts
through all of its copies, so their gradients are added to it. The gradient of a constant is
dropped:

    dX[r] = sum of dY[p] over all p with source(p) = r
    dX    = dY without its border                           for constants

Zeros are an edge that the image does not have. Where the border of the image is bright, a kernel
that looks for edges finds one along it. Replicated and mirrored pixels make no edge.

Only `pad` takes a constant v other than 0. nn.Conv2d has no such mode, so the built-in networks
have none: their `padding_mode` zeros is the constant 0. A custom model may put nn.ConstantPad2d
before a convolution without padding. For the first layer it adds nothing new. An image padded with
v is v plus the image less v, padded with zeros. A convolution is a weighted sum, hence, without
bias,

    Y(X padded with v) = Y(X - v padded with 0) + v sum of W

The bias learns the last term, and X - v is the image normalized by another mean.

Two amounts of padding have names, which nn.Conv2d takes, too. For a kernel of k and stride 1:

    valid   p = 0               only windows inside the image: H' = H - k + 1
    same    p = (k - 1) / 2     the image keeps its size: H' = H

For an odd k, p is a whole number and the middle of each window is a pixel of the image. For an even
k it is not: k - 1 rows are needed, an odd number, so one side gets a row more than the other
(`same_padding`). A window then has no pixel in its middle, and the maps are shifted by half a pixel
against the image. That is why kernels are usually odd.

Cost: nothing is computed forward. Backward an addition for each pixel, and nothing for constants.
"""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["MODES", "Pad", "find_sources", "pad", "same_padding"]

MODES = ("constant", "reflect", "replicate", "circular")

Sides = tuple[int, int, int, int]  # left, right, top, bottom


def same_padding(kernel_size: int) -> tuple[int, int]:
    """Return how many rows to add before and after for outputs of the same size at stride 1.

    Both are (k - 1) / 2 for an odd kernel. An even one needs one more after than before, as in
    PyTorch's padding="same".

    Raises:
        ValueError: if kernel_size is below 1.
    """
    if kernel_size < 1:
        raise ValueError(f"A kernel size of {kernel_size} is not allowed: it must be at least 1.")
    before = (kernel_size - 1) // 2
    return before, kernel_size - 1 - before


def find_sources(
    size: int, before: int, after: int, mode: str, device: torch.device | None = None
) -> torch.Tensor:
    """Return the source row of each padded row: int64 (before + size + after).

    Raises:
        ValueError: the mode is not known, or it needs more rows than there are to copy.
    """
    positions = torch.arange(-before, size + after, device=device)  # negative above the image
    max_padding = {"reflect": size - 1, "circular": size}.get(mode)
    largest = max(before, after)
    if max_padding is not None and largest > max_padding:
        raise ValueError(
            f"{mode} padding of {size} pixels adds at most {max_padding} on a side, not {largest}."
        )
    match mode:
        case "reflect":
            last = size - 1
            return last - (last - positions.abs()).abs()  # mirrored at row 0, then at the last row
        case "replicate":
            return positions.clamp(0, size - 1)
        case "circular":
            return positions % size
    raise ValueError(f"padding mode {mode!r} is not known. Allowed: {', '.join(MODES)}.")


class Pad(Function):
    """Padding of images with pixels of the image or a constant.

    images (N, C, H, W), sides, mode, value of constants
    -> (N, C, top + H + bottom, left + W + right)
    """

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, sides: Sides, mode: str, value: float
    ) -> torch.Tensor:
        left, right, top, bottom = sides
        height, width = images.shape[2:]
        ctx.copies, ctx.shape = mode != "constant", images.shape
        if ctx.copies:
            rows = find_sources(height, top, bottom, mode, images.device)
            columns = find_sources(width, left, right, mode, images.device)
            ctx.save_for_backward(rows, columns)
            return images[:, :, rows][:, :, :, columns]
        ctx.inside = (..., slice(top, top + height), slice(left, left + width))
        shape = (*images.shape[:2], top + height + bottom, left + width + right)
        padded = images.new_full(shape, value)
        padded[ctx.inside] = images
        return padded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if not ctx.copies:
            return grad[ctx.inside], None, None, None
        rows, columns = ctx.saved_tensors
        grad_rows = grad.new_zeros(*ctx.shape[:3], grad.shape[3]).index_add_(2, rows, grad)
        grad_images = grad.new_zeros(ctx.shape).index_add_(3, columns, grad_rows)
        return grad_images, None, None, None


def pad(
    images: torch.Tensor, sides: Sides, mode: str = "constant", value: float = 0.0
) -> torch.Tensor:
    """Return images (N, C, H, W) with more pixels on the sides (left, right, top, bottom).

    Args:
        images: (N, C, H, W).
        sides: how many pixels to add on the left, right, top and bottom.
        mode: one of MODES.
        value: the number to add in mode "constant".

    Raises:
        ValueError: the mode is not known, or it needs more pixels than there are to copy.
    """
    padded: torch.Tensor = Pad.apply(images, sides, mode, value) if any(sides) else images
    return padded
