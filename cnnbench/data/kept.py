"""A data set that stays in memory for the next job of a process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnbench.data.catalog import Dataset

__all__ = ["Arrays", "Kept"]

Arrays = dict[str, npt.NDArray[np.uint8]]

Stamp = tuple[int, ...]


@dataclass(frozen=True)
class Kept:
    """The verified content of some files, the folders they were looked for in, and how the files were."""

    dataset: Dataset
    places: tuple[str, ...]
    stamps: dict[Path, Stamp]
    arrays: Arrays

    @classmethod
    def now(cls, dataset: Dataset, places: tuple[str, ...], paths: Sequence[Path], arrays: Arrays) -> "Kept":
        """`arrays`, which nobody may write to from now on, as they are in `paths`."""
        for array in arrays.values():
            array.flags.writeable = False
        return cls(dataset, places, {path: _stamp(path) for path in paths}, arrays)

    def is_of(self, dataset: Dataset, places: tuple[str, ...]) -> bool:
        """Whether it is this data set, to be looked for in the same folders, and its files are as they were."""
        same = (self.dataset, self.places) == (dataset, places)
        return same and all(_stamp(path) == stamp for path, stamp in self.stamps.items())


def _stamp(path: Path) -> Stamp:
    """What changes when a file does; nothing if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
