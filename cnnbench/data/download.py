"""Load a public data set; torchvision's data set classes download what is not on this machine."""

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
from cnnbench.data.arrays import Arrays, mean_and_std
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

__all__ = ["load", "load_local", "prefetch"]

ATTEMPTS = 2  # at each mirror
TIMEOUT_S = 15
MAX_BYTES = 1 << 30  # of a downloaded file
PATIENCE_S = 1  # before a run that waits for another says so

Result = tuple[Found, Content | None]

_prefetched: dict[Hashable, "Future[Result]"] = {}


def load(dataset: PublicDataset, root: str | None = None) -> Content:
    """Return the data set, its mean and standard deviation known, and its content.

    What is not on this machine is downloaded.

    Raises:
        DataError: a file cannot be found or downloaded, with all that was tried.
    """
    key = (dataset.name, *list_folders(dataset, root))
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
    key = (dataset.name, *list_folders(dataset, root))
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
                for path in Path(part).rglob(published_name(file)):
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
        read_verified(dataset, file, path)
    except ValueError as error:
        tried.append(f"{path.name}: {error}")
        return
    if target.is_file():  # a damaged one
        target.replace(f"{target}.damaged")
    path.replace(target)


def _missing_error(
    dataset: PublicDataset, missing: list[str], root: Path, tried: list[str]
) -> DataError:
    wanted = ", ".join(map(published_name, missing))
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
