"""Image files with random pixels, and the types of the functions that write and read them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnbench.data.scan_folder import ImageFile

__all__ = ["Pixels", "Save", "as_image_files", "noise"]

Pixels = npt.NDArray[np.uint8]
Save = Callable[..., Path]


def noise(*shape: int) -> Pixels:
    """Return random pixels, the same for each call."""
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def as_image_files(*paths: Path) -> tuple[ImageFile, ...]:
    return tuple(ImageFile(str(path), ()) for path in paths)
