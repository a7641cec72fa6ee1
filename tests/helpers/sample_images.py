"""The sample images that are installed with cnnbench."""

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

import cnnbench

__all__ = ["load_sample_images"]

SAMPLE = Path(cnnbench.__file__).parent / "data" / "sample"


def load_sample_images(part: str = "t10k") -> npt.NDArray[np.uint8]:
    """Return the test images or, if `part` is "train", the training images: uint8 (N, 28, 28)."""
    content = gzip.decompress((SAMPLE / f"{part}-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
