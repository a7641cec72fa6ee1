"""Find the files of a public data set, or download them.

Files are looked for in the cache, in the folders of CNNBENCH_DATA and in system folders, and
otherwise downloaded by torchvision's data set classes. They are used only if their SHA-256 is the
known one: mirrors recompress, proxies serve pages of their own, and data sets share the names of
files.
"""

import gzip
import hashlib
import os
import socket
import sys
import warnings
import zlib
from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import replace
from errno import EDQUOT, ENOSPC
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock, Timeout

from cnnbench.data import cache
from cnnbench.data.archives import parse_files
from cnnbench.data.arrays import Arrays, mean_and_std
from cnnbench.data.cache import Content
from cnnbench.data.catalog import CATALOG, PublicDataset
from cnnbench.data.user_folders import expand_user, user_cache
from cnnbench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from _typeshed import SupportsRead

__all__ = ["cache_folder", "find_files", "load", "load_local", "prefetch"]

ATTEMPTS = 2  # at each mirror
TIMEOUT_S = 15
MAX_BYTES = 1 << 30  # of a downloaded file, and of what is unpacked from it
PATIENCE_S = 1  # before a run that waits for another says so
GZIP = b"\x1f\x8b"  # how gzipped files begin
PORTION = 1 << 16  # bytes that are read at a time


class Found(NamedTuple):
    """The verified files of a data set on this machine; `tried` says what was passed over."""

    paths: dict[str, Path]
    contents: dict[str, bytes]
    missing: list[str]
    tried: list[str]

    @property
    def folders(self) -> str:
        return ", ".join(sorted({str(path.parent) for path in self.paths.values()}))


Result = tuple[Found, Content | None]

_prefetched: dict[Hashable, "Future[Result]"] = {}


def cache_folder(root: str | None) -> Path:
    """Return where downloaded data sets are kept: `root` or, if None, the user's cache.

    Raises:
        ConfigError: it is in a home folder that is not known.
    """
    if root is None:
        return user_cache()
    folder = expand_user(root)
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        name = folder.parts[0]
        raise ConfigError(f"data.root={root}: {name} stands for no folder. Give the whole path.")
    return folder


def load(dataset: PublicDataset, root: str | None = None) -> Content:
    """Return the data set, its mean and standard deviation known, and its content.

    What is not on this machine is downloaded.

    Raises:
        DataError: a file cannot be found or downloaded, with all that was tried.
    """
    key = (dataset.name, *_folders(dataset, root))
    future = _prefetched.pop(key, None)
    known = cache.lookup((dataset, key))
    if known is not None:
        return known
    cache.clear()  # before others are read, so that both are never in memory
    found, content = _read(dataset, root) if future is None else future.result()
    tried = found.tried
    if content is None and dataset.source:
        _download_missing(dataset, cache_folder(root), tried)
        found, content = _read(dataset, root)
    if content is None:
        raise _missing_error(dataset, found.missing, cache_folder(root), tried)
    cache.store((dataset, key), found.paths.values(), *content)
    return content


def load_local(dataset: PublicDataset) -> Arrays | None:
    """Return the content of the files, None if one is not on this machine; download nothing."""
    _, content = _read(dataset, None)
    return None if content is None else content[1]


def prefetch(dataset: PublicDataset, root: str | None = None) -> None:
    """Begin to find, verify and read the files in a thread, for the next `load`; download nothing.

    That leaves the interpreter free for the import of PyTorch, which takes longer.
    """
    key = (dataset.name, *_folders(dataset, root))
    if key not in _prefetched and cache.lookup((dataset, key)) is None:
        future = _prefetched[key] = Future()
        # a daemon, so that the end of the program need not wait for it
        Thread(target=_read_into, args=(future, dataset, root), daemon=True).start()


def _read_into(future: "Future[Result]", dataset: PublicDataset, root: str | None) -> None:
    try:
        future.set_result(_read(dataset, root))
    except BaseException as error:  # `load` raises it
        future.set_exception(error)


def _read(dataset: PublicDataset, root: str | None) -> Result:
    """Return the files that are here and, if they are complete, what is in them."""
    found = find_files(dataset, root)
    if found.missing:
        return found, None
    arrays = parse_files(dataset, list(found.contents.values()))
    if dataset.is_measured:
        return found, (dataset, arrays)
    mean, std = mean_and_std(arrays.train_images)
    return found, (replace(dataset, mean=mean, std=std), arrays)


# Finding


def find_files(dataset: PublicDataset, root: str | None = None) -> Found:
    """Return the files that are on this machine, verified."""
    found = Found({}, {}, [], [])
    for file in dataset.sha256:
        place = _find_file(dataset, file, _folders(dataset, root), found.tried)
        if place is None:
            found.missing.append(file)
            continue
        found.paths[file], found.contents[file] = place
        if dataset.archives:
            return found._replace(missing=[])
    if dataset.archives:
        return found._replace(missing=[" or ".join(dataset.archives)])
    return found


def _folders(dataset: PublicDataset, root: str | None) -> list[Path]:
    """Return every folder the files may lie in, in the order they are looked at."""
    parts = os.environ.get("CNNBENCH_DATA", "").split(os.pathsep)
    places = [cache_folder(root), *(expand_user(part) for part in parts if part)]
    folders = [place / name for place in places for name in ("", *dataset.folders)]
    if not dataset.source:  # it is installed with cnnbench
        return [*dataset.system_folders, *folders]
    return [*folders, *dataset.system_folders]


def _published(file: str) -> str:
    """Return the name under which a file is published: what is no archive is gzipped."""
    return file if "." in file else f"{file}.gz"


def _find_file(dataset: PublicDataset, file: str, folders: list[Path], tried: list[str]) -> tuple[Path, bytes] | None:
    """Return the path and the verified content of one file; add to `tried` what is passed over."""
    for folder in folders:
        for path in dict.fromkeys((folder / file, folder / _published(file))):
            try:
                if path.is_file():
                    return path, _read_verified(dataset, file, path)
            except OSError as error:  # the folder may not be entered, or the file not be read
                tried.append(f"{path}: cannot be read ({error.strerror})")
            except ValueError as error:
                tried.append(f"{path}: {error}")
    return None


def _read_verified(dataset: PublicDataset, file: str, path: Path) -> bytes:
    """Return the content of a file as `_verify` does; raise ValueError also if it is too large."""
    with path.open("rb") as stream:
        return _verify(dataset, file, _read_at_most(stream, dataset.max_bytes(file)))


def _verify(dataset: PublicDataset, file: str, content: bytes) -> bytes:
    """Return the content of a file, unpacked if it is gzipped and no archive.

    Raises:
        ValueError: neither the content nor what is packed in it is the known one; no more is
            unpacked than shows it.
    """
    contents = [content]
    if content.startswith(GZIP) and file not in dataset.archives:
        try:
            stream = gzip.GzipFile(fileobj=BytesIO(content))
            contents.append(_read_at_most(stream, dataset.max_bytes(file)))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"damaged or truncated ({error})") from error
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    if dataset.sha256[file] in digests:
        return contents[-1]
    owner = _find_owner(digests)
    if owner is not None:
        raise ValueError(f"holds {owner}, not {dataset.title}'s {file}")
    reason = f"not {dataset.title}'s: its SHA-256 is {digests[-1][:12]}..."
    raise ValueError(f"damaged or truncated, or {reason}")


def _find_owner(digests: list[str]) -> str | None:
    """Return which file of which data set has one of the digests."""
    for dataset in CATALOG.values():
        for file, sha256 in dataset.sha256.items():
            if sha256 in digests:
                return f"{dataset.title}'s {file}"
    return None


def _read_at_most(stream: "SupportsRead[bytes]", limit: int) -> bytes:
    """Return the content of a stream; of what is longer, read no more than shows it.

    Raises:
        ValueError: it is longer.
    """
    content = BytesIO()
    while content.tell() <= limit and (portion := stream.read(PORTION)):
        content.write(portion)
    if content.tell() > limit:
        raise ValueError(f"larger than {limit:,} bytes, the most that it may have")
    return content.getvalue()


# Downloading


def _download_missing(dataset: PublicDataset, root: Path, tried: list[str]) -> None:
    """Download the data set, as far as it can be had; of parallel runs only one does.

    Raises:
        DataError: nothing can be written to the cache.
    """
    folder = root / dataset.folders[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(dataset, folder), TemporaryDirectory(prefix=".part-", dir=folder) as part:
            found = find_files(dataset, str(root))  # another run may have downloaded them
            if not found.missing:
                return
            _fetch(dataset, part, tried)
            for file in dataset.sha256.keys() - found.paths.keys():
                for path in Path(part).rglob(_published(file)):
                    _keep(dataset, file, path, folder / path.name, tried)
    except OSError as error:
        reason = f"Cannot write to the cache {folder}: {error}."
        raise DataError(f"{reason} Name another folder with data.root=DIR.") from error


@contextmanager
def _locked(dataset: PublicDataset, folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. Where it cannot be locked, each run downloads for itself."""
    lock = FileLock(folder / ".lock")
    with suppress(OSError, NotImplementedError), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flock not supported")  # filelock then marks the folder
        try:
            lock.acquire(timeout=PATIENCE_S)
        except Timeout:
            waiting = f"waiting for another run, which is fetching {dataset.title} into {folder}"
            print(f"cnnbench: {waiting}", file=sys.stderr)
            lock.acquire()  # the lock dies with its process, but not a mark that stands for it
    try:
        yield
    finally:
        lock.release()


def _fetch(dataset: PublicDataset, folder: str, tried: list[str]) -> None:
    """Let torchvision download the data set into a folder; if it fails, `tried` says why."""
    try:
        from torchvision import datasets  # type: ignore[import-untyped]  # has none; takes seconds
    except Exception as error:  # not installed, or not made for this PyTorch
        tried.append(f"torchvision cannot be imported ({error}): pip install torchvision")
        return
    source = getattr(datasets, dataset.source)
    # one mirror at a time, as torchvision gives up at the first that is silent
    for mirror in vars(source).get("mirrors", [""]) * ATTEMPTS:
        one_mirror = type(source.__name__, (source,), {"mirrors": [mirror]})
        try:
            with _bounded():
                for is_train in (True, False):
                    one_mirror(folder, train=is_train, download=True, **dataset.options)
            return
        except Exception as error:  # also what damaged archives raise
            if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
                raise
            reason = " ".join(str(error).split())
            if mirror not in reason:
                reason = f"{mirror}: {reason}"
            tried.append(f"torchvision's {source.__name__}: {reason}")


@contextmanager
def _bounded() -> Iterator[None]:
    """Let no connection be silent for long and no file grow without end; show bars on terminals."""
    import resource  # Windows has none

    timeout = socket.getdefaulttimeout()
    limit, hard_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    bound = MAX_BYTES if limit == resource.RLIM_INFINITY else limit
    stderr = sys.stderr if sys.stderr.isatty() else StringIO()
    try:
        socket.setdefaulttimeout(TIMEOUT_S)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bound, hard_limit))
        with redirect_stderr(stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard_limit))
        socket.setdefaulttimeout(timeout)


def _keep(dataset: PublicDataset, file: str, path: Path, target: Path, tried: list[str]) -> None:
    """Move a downloaded file to its place, if it is the known one."""
    try:
        _read_verified(dataset, file, path)
    except ValueError as error:
        tried.append(f"{path.name}: {error}")
        return
    if target.is_file():  # a damaged one
        target.replace(f"{target}.damaged")
    path.replace(target)


def _missing_error(dataset: PublicDataset, missing: list[str], root: Path, tried: list[str]) -> DataError:
    wanted = ", ".join(map(_published, missing))
    lines = [
        f"{dataset.title} is not complete on this machine and could not be fetched.",
        f"Missing: {', '.join(missing)}",
        *(["What was tried:"] if tried else []),
        *(f"  {attempt}" for attempt in dict.fromkeys(tried)),
        "How to go on:",
        f"  put {wanted} into {root / dataset.folders[0]}, or name their folder in CNNBENCH_DATA,",
        *([f"  {dataset.hint}"] if dataset.hint else []),
        "  or use data=sample, real images that are installed with cnnbench",
    ]
    return DataError("\n".join(lines))
