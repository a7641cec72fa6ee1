"""The images that are installed with cnnbench, as they are in their files."""

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt

import cnnbench

__all__ = ["load_sample_images"]

SAMPLE = Path(cnnbench.__file__).parent / "data" / "sample"


def load_sample_images(part: str = "t10k") -> npt.NDArray[np.uint8]:
    """Those for testing, or of the part `train`: uint8 (N, 28, 28)."""
    content = gzip.decompress((SAMPLE / f"{part}-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
