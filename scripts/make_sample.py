"""Make the data set `sample`: a class-balanced part of Fashion-MNIST, installed with the package.

    python scripts/make_sample.py

Reads Fashion-MNIST from where cnnbench finds it, writes cnnbench/data/sample/, and prints the
SHA-256 digests for cnnbench/data/catalog.py. It takes the first examples of each class, in the
order of the full set, so that the files depend on the full set alone.
"""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnbench.data.catalog import FILES, get
from cnnbench.data.download import load_public_dataset

FOLDER = Path(__file__).parents[1] / "cnnbench" / "data" / "sample"
EXAMPLES_PER_CLASS = {"train": 500, "t10k": 100}


def encode_idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return the content of the IDX file of an array."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def main() -> None:
    arrays = dict(zip(FILES, load_public_dataset(get("fashion_mnist"))[1], strict=True))
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        part = name.partition("-")[0]
        labels = arrays[f"{part}-labels-idx1-ubyte"]
        number = EXAMPLES_PER_CLASS[part]
        by_class = [np.flatnonzero(labels == label)[:number] for label in range(10)]
        chosen = np.sort(np.concatenate(by_class))
        content = encode_idx(arrays[name][chosen])
        (FOLDER / f"{name}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
        print(hashlib.sha256(content).hexdigest(), name)


if __name__ == "__main__":
    main()
