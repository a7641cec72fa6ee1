"""The IDX format, in which MNIST and its relatives lie in files (yann.lecun.com/exdb/mnist)."""

import struct

import numpy as np
import numpy.typing as npt

from cnnbench.errors import DataError

__all__ = ["parse_idx"]


def parse_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """An IDX file of unsigned bytes as an array.

    Format: two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each size as a
    big-endian 32-bit integer, the data.

    Raises:
        DataError: the header and the length do not say such an array.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError("Not an IDX file of unsigned bytes: it does not begin with 00 00 08.")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:start]) if len(content) >= start else ()
    if len(content) != start + int(np.prod(shape, dtype=np.int64)) or not shape:
        raise DataError(f"A damaged IDX file: {len(content)} bytes do not hold the shape {shape}.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
