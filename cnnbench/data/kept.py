"""A data set that stays in memory for the next job of a process: the one that was loaded last."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset

__all__ = ["Stamp", "forget", "keep", "recall", "stamp", "stamp_of"]

Stamp = tuple[int, ...]


@dataclass(frozen=True)
class _Kept:
    """The content of files, what they were asked for as, and how they were."""

    key: Any
    stamps: dict[Path, Stamp]
    content: tuple[Dataset, Arrays]


_kept: _Kept | None = None


def keep(key: Any, paths: Iterable[Path], dataset: Dataset, arrays: Arrays) -> None:
    """Keep a data set as long as the files at `paths` are as they are; nobody may write to `arrays` from now on.

    `key` says all that decides which files those are and what becomes of them.
    """
    global _kept
    for array in arrays[:4]:
        array.flags.writeable = False
    _kept = _Kept(key, {path: stamp(path) for path in paths}, (dataset, arrays))


def recall(key: Any) -> tuple[Dataset, Arrays] | None:
    """What was kept for `key`, if its files are as they were."""
    if _kept is None or _kept.key != key or any(stamp(path) != then for path, then in _kept.stamps.items()):
        return None
    return _kept.content


def forget() -> None:
    global _kept
    _kept = None


def stamp(path: Path) -> Stamp:
    """What changes when a file does; nothing if it is not there."""
    try:
        return stamp_of(path.stat())
    except OSError:
        return ()


def stamp_of(status: os.stat_result) -> Stamp:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
