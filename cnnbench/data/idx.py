"""Read IDX files, the format of MNIST and its relatives (yann.lecun.com/exdb/mnist).

An IDX file consists of two zero bytes, the type (8: unsigned bytes), the number of dimensions, the
size of each dimension as a big-endian 32-bit integer, and the data. The file may be gzipped.
"""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnbench.data.scan_folder import escape_name
from cnnbench.errors import DataError

__all__ = ["idx_digest", "is_idx", "parse_idx", "read_idx", "read_idx_shape"]

UINT8, INT32 = 0x08, 0x0C  # type codes of IDX
START, GZIP = bytes([0, 0, UINT8]), b"\x1f\x8b"
MAX_HEADER = 4 + 4 * 255  # bytes
CHUNK = 1 << 24  # bytes read at a time, because the size in the header cannot be trusted

Array = npt.NDArray[np.uint8]


def is_idx(path: Path) -> bool:
    """Return whether a file begins like an IDX file of unsigned bytes or like a gzip file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(3).startswith((START, GZIP))


def read_idx(path: Path) -> Array:
    """Return an IDX file of unsigned bytes, plain or gzipped, as an array.

    Raises:
        DataError: the file is missing, damaged or not an IDX file of unsigned bytes.
    """
    with _open(path) as stream:
        content = bytearray(stream.read(MAX_HEADER))
        max_length = MAX_HEADER + math.prod(_parse_shape(content))
        while len(content) <= max_length and (chunk := stream.read(CHUNK)):
            content += chunk
        return parse_idx(content)


def read_idx_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of an IDX file without reading the data.

    Raises:
        DataError: as `read_idx`.
    """
    with _open(path) as stream:
        return _parse_shape(stream.read(MAX_HEADER))


def parse_idx(content: bytes | bytearray) -> Array:
    """Return the content of an IDX file of unsigned bytes as an array that shares its memory.

    Raises:
        DataError: the header is not that of such a file, or does not match the length.
    """
    shape = _parse_shape(content)
    array = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape))
    if array.size != math.prod(shape):
        raise DataError(f"is a damaged IDX file: {array.size:,} bytes for the shape {shape}.")
    return array.reshape(shape)


def idx_digest(array: npt.NDArray[np.integer[Any]]) -> str:
    """Return the SHA-256 of the IDX file that would hold the array."""
    is_uint8 = array.dtype == np.uint8
    type_code, values = (UINT8, array) if is_uint8 else (INT32, array.astype(">i4"))
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    digest = hashlib.sha256(bytes([0, 0, type_code, array.ndim]) + sizes)
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _parse_shape(content: bytes | bytearray) -> tuple[int, ...]:
    if not content.startswith(START):
        start = bytes(content[:3]).hex(" ") or "nothing"
        raise DataError(f"is no IDX file of unsigned bytes: it begins with {start}, not 00 00 08.")
    if len(content) < 8 or len(content) < 4 + 4 * content[3]:
        raise DataError("is a damaged IDX file: it ends within its header.")
    return struct.unpack_from(f">{content[3]}I", content, 4)


@contextmanager
def _open(path: Path) -> Iterator[BufferedIOBase]:
    """Open a file, unpacked if it is gzipped; turn errors into DataErrors that name the file."""
    try:
        with path.open("rb") as file:
            is_gzipped = file.peek(2).startswith(GZIP)
            yield gzip.GzipFile(fileobj=file) if is_gzipped else file
    except DataError as error:
        raise DataError(f"{escape_name(path)} {error}") from error
    except (EOFError, OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{escape_name(path)} cannot be read: {reason}.") from error
