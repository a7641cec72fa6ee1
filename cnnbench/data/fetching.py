"""Fetching files of a data set from its mirrors into the cache; parallel runs fetch once."""

import os
import sys
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from cnnbench.data.catalog import Dataset
from cnnbench.data.verifying import TooLargeError, packed_size, read_verified
from cnnbench.errors import NO_LOCKS, DataError

__all__ = ["fetch"]

ATTEMPTS = 2  # at each mirror
TIMEOUT_S = 15
PATIENCE_S = 1  # before a run that waits for another says so


def fetch(dataset: Dataset, missing: Sequence[str], cache: Path, tried: list[str]) -> dict[str, bytes]:
    """Download `missing` into the cache and return the contents; of parallel runs the others use what one fetched.

    Raises:
        DataError: a file is not to be had, with all that was `tried`.
    """
    if not dataset.mirrors:
        raise DataError(_not_to_be_had(dataset, missing, cache, tried))
    folder = cache / dataset.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(dataset, folder):
            return {file: _fetch_one(dataset, file, folder, missing, tried) for file in missing}
    except OSError as error:
        raise DataError(
            f"Cannot write to the cache {folder}, or lock it: {error}. Name another folder with data.root=DIR."
        ) from error


@contextmanager
def _locked(dataset: Dataset, folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. Where the file system has none, each run fetches for itself."""
    lock = FileLock(folder / ".lock")
    try:
        _acquire(lock, dataset, folder)
    except NotImplementedError:  # filelock's, up to version 3, for ENOSYS
        pass
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, dataset: Dataset, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flock not supported")  # filelock then marks the folder
        try:
            lock.acquire(timeout=PATIENCE_S)
        except Timeout:
            waiting = f"waiting for another run, which is fetching {dataset.title} into {folder}"
            print(f"cnnbench: {waiting}", file=sys.stderr)
            lock.acquire()  # the lock dies with its process, but not a mark that stands for it


def _fetch_one(dataset: Dataset, file: str, folder: Path, missing: Sequence[str], tried: list[str]) -> bytes:
    form = dataset.forms(file)[-1]
    target = folder / form.name
    damaged = False
    if target.is_file():  # put there while we waited for the lock, or the damaged one that `find` passed over
        content, _ = read_verified(dataset, form, target)
        if content is not None:
            return content
        damaged = True
    partial = target.with_name(f".part.{os.getpid()}.{target.name}")
    try:
        for mirror in dataset.mirrors * ATTEMPTS:
            url = f"{mirror}{form.name}"
            try:
                packed = _download(url, packed_size(form))
            except (OSError, HTTPException, EOFError, ValueError) as error:  # URLError and HTTPError are OSErrors
                tried.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
                continue
            partial.write_bytes(packed)
            content, problem = read_verified(dataset, form, partial)
            if content is None:
                tried.append(f"{url}: {problem}")
                continue
            if damaged:
                target.replace(target.with_name(f"{target.name}.damaged"))
            partial.replace(target)
            return content
    finally:
        partial.unlink(missing_ok=True)
    raise DataError(_not_to_be_had(dataset, missing, folder.parent, tried))


def _download(url: str, limit: int) -> bytes:
    packed = bytearray()
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        if size > limit:
            raise TooLargeError(limit)
        name = url.rpartition("/")[2]
        with tqdm(total=size or None, unit="B", unit_scale=True, desc=name, disable=None, leave=False) as bar:
            while chunk := answer.read(1 << 18):
                packed += chunk
                if len(packed) > limit:
                    raise TooLargeError(limit)
                bar.update(len(chunk))  # does not count where there is no terminal
    if len(packed) < size:
        raise EOFError(f"the connection ended after {len(packed)} of {size} bytes")
    return bytes(packed)


def _not_to_be_had(dataset: Dataset, missing: Sequence[str], cache: Path, tried: Sequence[str]) -> str:
    lines = [
        f"{dataset.title} is not complete on this machine and could not be fetched.",
        "Missing: " + ", ".join(missing),
    ]
    lines += ["What was tried:", *(f"  {attempt}" for attempt in dict.fromkeys(tried))] if tried else []
    wanted = " or ".join(dataset.archives) or "the four .gz files"
    lines += [
        "How to go on:",
        f"  put {wanted} into {cache / dataset.name}, or name their folder in CNNBENCH_DATA,",
        *([f"  {dataset.hint}"] if dataset.hint else []),
        "  or use data=sample, real images that are installed with cnnbench",
    ]
    return "\n".join(lines)
