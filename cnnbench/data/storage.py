"""Finding, verifying and fetching the files of a data set.

A file is looked for in the cache, then in the folders of CNNBENCH_DATA, then in system folders, and
then fetched into the cache. It is used only if the SHA-256 of its decompressed content is the known
one: mirrors recompress, and Fashion-MNIST's files bear the same names as MNIST's. Of what is longer
than the known file no more is read than shows it, be it on disk, compressed or on its way.
"""

import gzip
import hashlib
import os
import struct
import sys
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http.client import HTTPException
from io import BufferedIOBase, BytesIO
from pathlib import Path
from threading import Thread

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from tqdm import tqdm

from cnnbench.data.catalog import CATALOG, FILES, Dataset
from cnnbench.data.kept import Arrays, Kept
from cnnbench.errors import DataError

__all__ = ["Arrays", "cache_folder", "find", "load", "parse_idx", "read_ahead"]

Found = tuple[dict[str, tuple[Path, bytes]], list[str]]  # the files that are here, verified; what was passed over

_ahead: dict[tuple[str, ...], "Future[Found]"] = {}  # what `read_ahead` has begun, by data set and folders
_kept: Kept | None = None  # what was loaded last

ATTEMPTS = 2  # at each mirror
TIMEOUT_S = 15
PATIENCE_S = 1  # before a run that waits for another says so


def cache_folder(root: str | None) -> Path:
    """Where fetched data sets are kept: `root` or, if None, the platform's user cache."""
    return user_cache_path("cnnbench") if root is None else Path(root).expanduser()


def load(dataset: Dataset, root: str | None = None) -> Arrays:
    """The content of the four files, fetched if it must be: images [N, H, W], labels [N].

    Raises:
        DataError: a file is nowhere to be had, with all that was tried.
    """
    global _kept
    ahead = _ahead.pop(_places(dataset, root), None)
    if _kept is not None and _kept.is_of(dataset, _places(dataset, root)):
        return dict(_kept.arrays)
    _kept = None  # before others are read, so that both are never in memory
    found, tried = ahead.result() if ahead is not None else _find_all(dataset, root)
    contents = {name: content for name, (_, content) in found.items()}
    missing = [name for name in FILES if name not in contents]
    if missing:
        contents |= _fetch(dataset, missing, cache_folder(root), tried)
    arrays = {name: parse_idx(contents[name]) for name in FILES}
    if not missing:
        _kept = Kept.now(dataset, _places(dataset, root), [path for path, _ in found.values()], arrays)
    return arrays


def read_ahead(dataset: Dataset, root: str | None = None) -> None:
    """Begin to find and verify the files in the background, for the next `load`. Nothing is fetched.

    Decompressing and hashing leave the interpreter free for the import of PyTorch, which takes longer.
    """
    places = _places(dataset, root)
    if places not in _ahead and not (_kept is not None and _kept.is_of(dataset, _places(dataset, root))):
        _ahead[places] = Future()
        # a daemon, so that the end of the program need not wait for it
        Thread(target=_complete, args=(_ahead[places], dataset, root), daemon=True).start()


def _complete(future: "Future[Found]", dataset: Dataset, root: str | None) -> None:
    try:
        future.set_result(_find_all(dataset, root))
    except BaseException as error:  # it is `load` that raises it
        future.set_exception(error)


def _find_all(dataset: Dataset, root: str | None) -> Found:
    tried: list[str] = []
    found: dict[str, tuple[Path, bytes]] = {}
    for name in FILES:
        path, content = find(dataset, name, root, tried)
        if path is not None and content is not None:
            found[name] = (path, content)
    return found, tried


def find(dataset: Dataset, name: str, root: str | None, tried: list[str]) -> tuple[Path, bytes] | tuple[None, None]:
    """The path and verified content of one file on this machine; what was passed over goes to `tried`."""
    for folder in _folders(dataset, root):
        for path in (folder / name, folder / f"{name}.gz"):
            try:
                if not path.is_file():
                    continue
            except OSError as error:  # such as a folder that may not be entered
                tried.append(f"{path}: cannot be looked at ({error.strerror})")
                continue
            content, problem = _read_verified(dataset, name, path)
            if content is not None:
                return path, content
            tried.append(f"{path}: {problem}")
    return None, None


def _places(dataset: Dataset, root: str | None) -> tuple[str, ...]:
    return (dataset.name, *map(str, _folders(dataset, root)))


def _folders(dataset: Dataset, root: str | None) -> list[Path]:
    """Every folder the files may lie in, in the order they are looked at."""
    given = [Path(part).expanduser() for part in os.environ.get("CNNBENCH_DATA", "").split(os.pathsep) if part]
    folders = [cache_folder(root), *given]
    named = [place / name for place in folders for name in ("", *dataset.folders)]
    return [*dataset.places, *named] if dataset.name == "sample" else [*named, *dataset.places]


def _read_verified(dataset: Dataset, name: str, path: Path) -> tuple[bytes | None, str]:
    """The decompressed content of the file, or None and what is wrong with it."""
    try:
        content = _read(path, dataset.file_size(name))
    except _TooLargeError as error:
        return None, str(error)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return None, f"damaged or truncated ({error})"
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"
    digest = hashlib.sha256(content).hexdigest()
    if digest == dataset.sha256[name]:
        return content, ""
    for other in CATALOG.values():
        for other_name, other_digest in other.sha256.items():
            if digest == other_digest:
                return None, f"holds {other.title}'s {other_name}, not {dataset.title}'s {name}"
    return None, f"damaged or truncated, or not {dataset.title}'s: its SHA-256 is {digest[:12]}..."


class _TooLargeError(ValueError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"larger than {limit:,} bytes, the most that it may have")


def _read(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        if path.suffix != ".gz":
            return _read_at_most(file, size)
        # bounded too: a file of empty members would take for ever and come to nothing
        packed = _read_at_most(file, _packed_size(size))
    return _read_at_most(gzip.GzipFile(fileobj=BytesIO(packed)), size)


def _read_at_most(stream: BufferedIOBase, limit: int) -> bytes:
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise _TooLargeError(limit)
    return content


def _packed_size(size: int) -> int:
    """The most bytes a gzip file of `size` bytes has: what cannot be compressed is stored, in blocks with headers."""
    return size + size // 100 + 4096


def _fetch(dataset: Dataset, missing: list[str], cache: Path, tried: list[str]) -> dict[str, bytes]:
    """Download `missing` into the cache; parallel runs wait for the first and use what it fetched."""
    if not dataset.mirrors:
        raise DataError(_not_to_be_had(dataset, missing, cache, tried))
    folder = cache / dataset.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(dataset, folder):
            return {name: _fetch_one(dataset, name, folder, missing, tried) for name in missing}
    except (OSError, NotImplementedError) as error:  # the latter is filelock's, of a file system without locks
        raise DataError(
            f"Cannot write to the cache {folder}, or lock it: {error}. Name another folder with data.root=DIR."
        ) from error


@contextmanager
def _locked(dataset: Dataset, folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        print(f"cnnbench: waiting for another run, which is fetching {dataset.title} into {folder}", file=sys.stderr)
        lock.acquire()  # ends with the other, however that ends: the lock dies with its process
    try:
        yield
    finally:
        lock.release()


def _fetch_one(dataset: Dataset, name: str, folder: Path, missing: list[str], tried: list[str]) -> bytes:
    target = folder / f"{name}.gz"
    damaged = False
    if target.is_file():  # put there while we waited for the lock, or the damaged one that `find` passed over
        content, _ = _read_verified(dataset, name, target)
        if content is not None:
            return content
        damaged = True
    partial = target.with_name(f".part.{target.name}")
    for mirror in dataset.mirrors * ATTEMPTS:
        url = f"{mirror}{name}.gz"
        try:
            packed = _download(url, _packed_size(dataset.file_size(name)))
        except (OSError, HTTPException, EOFError, ValueError) as error:  # URLError and HTTPError are OSErrors
            tried.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
            continue
        partial.write_bytes(packed)
        content, problem = _read_verified(dataset, name, partial)
        if content is None:
            tried.append(f"{url}: {problem}")
            continue
        if damaged:
            target.replace(target.with_name(f"{target.name}.damaged"))
        partial.replace(target)
        return content
    partial.unlink(missing_ok=True)
    raise DataError(_not_to_be_had(dataset, missing, folder.parent, tried))


def _download(url: str, limit: int) -> bytes:
    packed = bytearray()
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        if size > limit:
            raise _TooLargeError(limit)
        name = url.rpartition("/")[2]
        with tqdm(total=size or None, unit="B", unit_scale=True, desc=name, disable=None, leave=False) as bar:
            while chunk := answer.read(1 << 18):
                packed += chunk
                if len(packed) > limit:
                    raise _TooLargeError(limit)
                bar.update(len(chunk))  # does not count where there is no terminal
    if len(packed) < size:
        raise EOFError(f"the connection ended after {len(packed)} of {size} bytes")
    return bytes(packed)


def _not_to_be_had(dataset: Dataset, missing: list[str], cache: Path, tried: list[str]) -> str:
    lines = [
        f"{dataset.title} is not complete on this machine and could not be fetched.",
        "Missing: " + ", ".join(missing),
    ]
    lines += ["What was tried:", *(f"  {attempt}" for attempt in dict.fromkeys(tried))] if tried else []
    lines += [
        "How to go on:",
        f"  put the four .gz files into {cache / dataset.name}, or name their folder in CNNBENCH_DATA,",
        *([f"  {dataset.hint}"] if dataset.hint else []),
        "  or use data=sample, real images that are installed with cnnbench",
    ]
    return "\n".join(lines)


def parse_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """An IDX file of unsigned bytes as an array.

    Format: two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each size as a
    big-endian 32-bit integer, the data (yann.lecun.com/exdb/mnist).

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
