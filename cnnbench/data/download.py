"""Load public data sets; download missing files with the data set classes of torchvision."""

import socket
import sys
import warnings
from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import replace
from errno import EDQUOT, ENOSPC
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from filelock import FileLock, Timeout

from cnnbench.data import cache
from cnnbench.data.archives import parse_files
from cnnbench.data.arrays import Arrays, measure_mean_and_std
from cnnbench.data.cache import Content
from cnnbench.data.catalog import PublicDataset
from cnnbench.data.public_files import (
    Found,
    cache_folder,
    find_files,
    list_folders,
    published_name,
    read_verified,
)
from cnnbench.errors import DataError

__all__ = ["load_local", "load_public_dataset", "prefetch_public_dataset"]

NUM_ATTEMPTS = 2  # for each mirror
TIMEOUT_S = 15
MAX_BYTES = 1 << 30  # maximum size of a downloaded file
LOCK_NOTICE_S = 1  # time to wait for another run before reporting it

Result = tuple[Found, Content | None]

_prefetched: dict[Hashable, "Future[Result]"] = {}


def load_public_dataset(dataset: PublicDataset, root: str | None = None) -> Content:
    """Return the data set with measured mean and standard deviation, and its content.

    Files that are not on this machine are downloaded into `root` or, if None, the user's cache.

    Raises:
        DataError: a file cannot be found or downloaded. The message lists all attempts.
    """
    key = (dataset.name, *list_folders(dataset, root))
    future = _prefetched.pop(key, None)
    cached = cache.lookup((dataset, key))
    if cached is not None:
        return cached
    cache.clear()  # before reading, so that two data sets are never in memory
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
    """Return the images and labels, or None if a file is not on this machine; download nothing."""
    _, content = _read(dataset, None)
    if content is None:
        return None
    _, arrays = content
    return arrays


def prefetch_public_dataset(dataset: PublicDataset, root: str | None = None) -> None:
    """Find, verify and read files in a thread, for `load_public_dataset`; download nothing.

    Meanwhile the interpreter can import PyTorch, which takes longer.
    """
    key = (dataset.name, *list_folders(dataset, root))
    if key not in _prefetched and cache.lookup((dataset, key)) is None:
        future = _prefetched[key] = Future()
        # A daemon thread, so that the program can end before it.
        Thread(target=_read_into, args=(future, dataset, root), daemon=True).start()


def _read_into(future: "Future[Result]", dataset: PublicDataset, root: str | None) -> None:
    try:
        future.set_result(_read(dataset, root))
    except BaseException as error:  # `load_public_dataset` raises it
        future.set_exception(error)


def _read(dataset: PublicDataset, root: str | None) -> Result:
    """Return the files on this machine and, if all are there, their content."""
    found = find_files(dataset, root)
    if found.missing:
        return found, None
    arrays = parse_files(dataset, list(found.contents.values()))
    if dataset.is_measured:
        return found, (dataset, arrays)
    mean, std = measure_mean_and_std(arrays.train_images)
    return found, (replace(dataset, mean=mean, std=std), arrays)


def _download_missing(dataset: PublicDataset, root: Path, tried: list[str]) -> None:
    """Download the missing files that can be downloaded; append failures to `tried`.

    Of several runs at once, one downloads and the others wait.

    Raises:
        DataError: the cache cannot be written to.
    """
    folder = root / dataset.folders[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(dataset, folder), TemporaryDirectory(prefix=".part-", dir=folder) as part:
            found = find_files(dataset, str(root))  # another run may have downloaded them
            if not found.missing:
                return
            _download(dataset, part, tried)
            for file in dataset.sha256.keys() - found.paths.keys():
                for path in Path(part).rglob(published_name(file)):
                    _move_verified(dataset, file, path, folder / path.name, tried)
    except OSError as error:
        reason = f"Cannot write to the cache {folder}: {error}."
        raise DataError(f"{reason} Name another folder with data.root=DIR.") from error


@contextmanager
def _lock(dataset: PublicDataset, folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; if it cannot be locked, let each run download for itself."""
    lock = FileLock(folder / ".lock")
    with suppress(OSError, NotImplementedError), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flock not supported")  # filelock then uses a lock file
        try:
            lock.acquire(timeout=LOCK_NOTICE_S)
        except Timeout:
            message = f"waiting for another run to download {dataset.title} into {folder}"
            print(f"cnnbench: {message}", file=sys.stderr)
            lock.acquire()  # a lock ends with its process, a lock file must be deleted
    try:
        yield
    finally:
        lock.release()


def _download(dataset: PublicDataset, folder: str, tried: list[str]) -> None:
    """Let torchvision download the data set into a folder; append failures to `tried`."""
    try:  # imported here, because it takes seconds
        from torchvision import datasets  # type: ignore[import-untyped]  # has no types
    except Exception as error:  # not installed, or built for another PyTorch
        tried.append(f"torchvision cannot be imported ({error}): pip install torchvision")
        return
    source = getattr(datasets, dataset.source)
    # One mirror at a time, because torchvision gives up at the first that does not answer.
    for mirror in vars(source).get("mirrors", [""]) * NUM_ATTEMPTS:
        one_mirror = type(source.__name__, (source,), {"mirrors": [mirror]})
        try:
            with _limit_downloads():
                for is_train in (True, False):
                    one_mirror(folder, train=is_train, download=True, **dataset.options)
            return
        except Exception as error:  # damaged archives raise errors of many types
            if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
                raise
            reason = " ".join(str(error).split())
            if mirror not in reason:
                reason = f"{mirror}: {reason}"
            tried.append(f"torchvision's {source.__name__}: {reason}")


@contextmanager
def _limit_downloads() -> Iterator[None]:
    """Limit waiting times and file sizes; show progress bars on terminals only."""
    import resource  # imported here, because Windows lacks it

    timeout = socket.getdefaulttimeout()
    limit, hard_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    max_bytes = MAX_BYTES if limit == resource.RLIM_INFINITY else limit
    stderr = sys.stderr if sys.stderr.isatty() else StringIO()
    try:
        socket.setdefaulttimeout(TIMEOUT_S)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard_limit))
        with redirect_stderr(stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard_limit))
        socket.setdefaulttimeout(timeout)


def _move_verified(
    dataset: PublicDataset, file: str, path: Path, target: Path, tried: list[str]
) -> None:
    """Move a downloaded file to `target` if its digest is right; otherwise append to `tried`."""
    try:
        read_verified(dataset, file, path)
    except ValueError as error:
        tried.append(f"{path.name}: {error}")
        return
    if target.is_file():  # it is damaged, or it would not have been downloaded
        target.replace(f"{target}.damaged")
    path.replace(target)


def _missing_error(
    dataset: PublicDataset, missing: list[str], root: Path, tried: list[str]
) -> DataError:
    wanted = ", ".join(map(published_name, missing))
    lines = [
        f"{dataset.title} is not complete on this machine and could not be downloaded.",
        f"Missing: {', '.join(missing)}",
        *(["Tried:"] if tried else []),
        *(f"  {attempt}" for attempt in dict.fromkeys(tried)),
        "To fix this:",
        f"  put {wanted} into {root / dataset.folders[0]}, or name their folder in CNNBENCH_DATA,",
        *([f"  {dataset.hint}"] if dataset.hint else []),
        "  or use data=sample, real images that are installed with cnnbench",
    ]
    return DataError("\n".join(lines))
