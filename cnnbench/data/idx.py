"""The IDX format, in which MNIST and its relatives lie in files (yann.lecun.com/exdb/mnist).

Two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each size as a big-endian 32-bit integer,
the data.
"""

import hashlib
import math
import struct
from io import BufferedIOBase, BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnbench.errors import DataError

__all__ = ["idx_digest", "parse_idx", "read_idx", "read_shape"]

BYTES, INTEGERS = 0x08, 0x0C  # types: unsigned bytes, 32-bit integers
PORTION = 1 << 24  # bytes read at a time: the header may promise any number of them


def read_shape(stream: BufferedIOBase) -> tuple[int, ...]:
    """The shape that the header of an IDX file of unsigned bytes says; the stream is left at the data.

    Raises:
        DataError: it is no such header.
    """
    start = stream.read(4)
    if len(start) < 4 or start[:3] != bytes([0, 0, BYTES]):
        raise DataError(
            f"Not an IDX file of unsigned bytes: it begins with {start[:3].hex(' ') or 'nothing'}, not 00 00 08."
        )
    sizes = stream.read(4 * start[3])
    if len(sizes) < 4 * start[3] or not sizes:
        raise DataError("A damaged IDX file: it ends within its header, or has no dimensions.")
    return struct.unpack(f">{start[3]}I", sizes)


def read_idx(stream: BufferedIOBase) -> npt.NDArray[np.uint8]:
    """An IDX file of unsigned bytes as an array; no more is read than shows that it is too long.

    Raises:
        DataError: the header and the length do not say such an array.
    """
    shape = read_shape(stream)
    size, content = math.prod(shape), bytearray()
    while len(content) <= size and (portion := stream.read(min(PORTION, size + 1 - len(content)))):
        content += portion
    return _array(content, 0, shape)


def parse_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """As `read_idx`, but of what has been read, and without a copy of it."""
    shape = read_shape(BytesIO(content))
    return _array(content, 4 + 4 * len(shape), shape)


def _array(content: bytes | bytearray, start: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    length = len(content) - start
    if length != math.prod(shape):
        than = "fewer" if length < math.prod(shape) else "more"
        raise DataError(f"A damaged IDX file: it has {than} bytes than the shape {' x '.join(map(str, shape))} takes.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def idx_digest(array: npt.NDArray[np.integer[Any]]) -> str:
    """The SHA-256 of the IDX file that would hold the array."""
    kind, values = (BYTES, array) if array.dtype == np.uint8 else (INTEGERS, array.astype(">i4"))
    digest = hashlib.sha256(bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape))
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
