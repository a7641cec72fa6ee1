"""im2col with the arguments and the layout of Deep Learning from Scratch: each window is a row.

    im2col(X, FH, FW, stride, pad)      (N, C, H, W) -> (N OH OW, C FH FW)

    OH = floor((H + 2 pad - FH) / stride) + 1, and OW in the same way from W and FW

The rows are ordered by example, then by row and column of the window. Within a row, pixels are
ordered by channel, then by row and column in the window, as in a kernel. With one kernel in each
column of a matrix, one matrix product computes all outputs:

    Y = im2col(X) W^T + b               (N OH OW, M)    with W as (M, C FH FW)

`convolution.im2col` is the transpose of this matrix and keeps its axes apart: (C, FH, FW, N, OH,
OW), one column for each window. There W stands left of the columns, Y has the maps in front, and
the channels of a group are neighboring rows. Its images are padded before, see padding.py.

Cost: no computation, but copies. The matrix has about FH FW / stride^2 times the numbers of X.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from cnnbench.reference import convolution
from cnnbench.reference.padding import pad as pad_images

__all__ = ["im2col"]

Images = TypeVar("Images", torch.Tensor, npt.NDArray[np.generic])


def im2col(
    input_data: Images, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0
) -> Images:
    """Return every window of images (N, C, H, W) as a row: (N OH OW, C FH FW).

    Args:
        input_data: a tensor, or a NumPy array, for which the rows are an array, too.
        filter_h: FH, the rows of a window.
        filter_w: FW, the columns of a window.
        stride: the step from one window to the next, downwards and to the right.
        pad: how many rows or columns of zeros to add on each side.

    Raises:
        ValueError: if no window fits.
    """
    if isinstance(input_data, np.ndarray):
        images = torch.from_numpy(input_data.copy())  # A view may have strides that torch refuses.
        return im2col(images, filter_h, filter_w, stride, pad).numpy()
    padded = pad_images(input_data, (pad, pad, pad, pad))
    columns = convolution.im2col(padded, (filter_h, filter_w), (stride, stride))
    windows = columns.permute(3, 4, 5, 0, 1, 2)  # (N, OH, OW, C, FH, FW)
    return windows.flatten(3).flatten(0, 2)
