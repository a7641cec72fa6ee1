"""Files that are used only if their content is the known one; of what is longer no more is read than shows it."""

import gzip
import hashlib
import zlib
from io import BufferedIOBase, BytesIO
from pathlib import Path

from cnnbench.data.catalog import CATALOG, Dataset, Form

__all__ = ["TooLargeError", "packed_size", "read_verified"]


class TooLargeError(ValueError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"larger than {limit:,} bytes, the most that it may have")


def read_verified(dataset: Dataset, form: Form, path: Path) -> tuple[bytes | None, str]:
    """The content of the file, unpacked if it is gzipped, or None and what is wrong with it."""
    try:
        content = _read(path, form)
    except TooLargeError as error:
        return None, str(error)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return None, f"damaged or truncated ({error})"
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
    digest = hashlib.sha256(content).hexdigest()
    if digest == form.sha256:
        return content, ""
    for other in CATALOG.values():
        for name, other_digest in other.sha256.items():
            if digest == other_digest:
                return None, f"holds {other.title}'s {name}, not {dataset.title}'s {_content_name(form)}"
    return None, f"damaged or truncated, or not {dataset.title}'s: its SHA-256 is {digest[:12]}..."


def _content_name(form: Form) -> str:
    return form.name.removesuffix(".gz") if form.gzipped else form.name


def _read(path: Path, form: Form) -> bytes:
    with path.open("rb") as file:
        if not form.gzipped:
            return _read_at_most(file, form.size)
        # bounded too: a file of empty members would take for ever and come to nothing
        packed = _read_at_most(file, packed_size(form))
    return _read_at_most(gzip.GzipFile(fileobj=BytesIO(packed)), form.size)


def _read_at_most(stream: BufferedIOBase, limit: int) -> bytes:
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(limit)
    return content


def packed_size(form: Form) -> int:
    """The most bytes that the file has: what gzip cannot compress is stored, in blocks with headers."""
    return form.size + form.size // 100 + 4096 if form.gzipped else form.size
