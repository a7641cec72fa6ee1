"""Padding: rows and columns around an image, so that windows also fit at its border.

    images (N, C, H, W), sides (left, right, top, bottom)  ->  (N, C, top + H + bottom, left + W + right)

What the new pixels are, for a row of pixels a b c d and two more on each side:

    constant    0 0 a b c d 0 0     zeros, or any other number
    reflect     c b a b c d c b     mirrored; the outermost pixel is the mirror and is not repeated
    replicate   a a a b c d d d     the outermost pixel again and again
    circular    c d a b c d a b     as if the image were repeated without end

All but the first copy pixels. Columns are padded as rows are, so it suffices to say which row each new one copies:

    Y[p] = X[source(p)]         p from 0 to top + H + bottom - 1

Backward, with dY the derivative of the loss with respect to each pixel of Y. A pixel that was copied acts through all
of its copies, so their gradients are folded back onto it; what a constant is given is of no use:

    dX[r] = sum of dY[p] over all p with source(p) = r
    dX    = dY without its border                           for constants

Zeros are an edge that the image does not have: wherever its border is bright, a kernel that looks for edges finds one
along it. Replicated and mirrored pixels make none.

Cost: nothing is computed forward. Backward an addition for each pixel, but for constants nothing.
"""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["MODES", "Pad", "pad", "sources"]

MODES = ("constant", "reflect", "replicate", "circular")

Sides = tuple[int, int, int, int]  # left, right, top, bottom


def sources(
    size: int, before: int, after: int, mode: str, device: torch.device | None = None
) -> torch.Tensor:
    """Which of `size` rows each padded row copies: int64 (before + size + after).

    Raises:
        ValueError: there is no such mode, or it has not as many rows to copy.
    """
    positions = torch.arange(-before, size + after, device=device)  # negative above the image
    most = {"reflect": size - 1, "circular": size}.get(mode)
    if most is not None and max(before, after) > most:
        raise ValueError(
            f"{mode} padding of {size} pixels adds at most {most} on a side, not {max(before, after)}."
        )
    match mode:
        case "reflect":
            last = size - 1
            return last - (last - positions.abs()).abs()  # mirrored at row 0, then at the last one
        case "replicate":
            return positions.clamp(0, size - 1)
        case "circular":
            return positions % size
    raise ValueError(f"padding mode {mode!r} is not known. Allowed: {', '.join(MODES)}.")


class Pad(Function):
    """images (N, C, H, W), sides, mode, value of constants to (N, C, top + H + bottom, left + W + right)."""

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, sides: Sides, mode: str, value: float
    ) -> torch.Tensor:
        left, right, top, bottom = sides
        height, width = images.shape[2:]
        ctx.copies, ctx.shape = mode != "constant", images.shape
        if ctx.copies:
            rows = sources(height, top, bottom, mode, images.device)
            columns = sources(width, left, right, mode, images.device)
            ctx.save_for_backward(rows, columns)
            return images[:, :, rows][:, :, :, columns]
        ctx.inside = (..., slice(top, top + height), slice(left, left + width))
        padded = images.new_full(
            (*images.shape[:2], top + height + bottom, left + width + right), value
        )
        padded[ctx.inside] = images
        return padded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if not ctx.copies:
            return grad[ctx.inside], None, None, None
        rows, columns = ctx.saved_tensors
        of_rows = grad.new_zeros(*ctx.shape[:3], grad.shape[3]).index_add_(2, rows, grad)
        of_images = grad.new_zeros(ctx.shape).index_add_(3, columns, of_rows)
        return of_images, None, None, None


def pad(
    images: torch.Tensor, sides: Sides, mode: str = "constant", value: float = 0.0
) -> torch.Tensor:
    """images (N, C, H, W) with so many more pixels on the left, on the right, above and below."""
    padded: torch.Tensor = Pad.apply(images, sides, mode, value) if any(sides) else images
    return padded
