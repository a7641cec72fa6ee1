"""Make the data set `sample`: a class-balanced part of Fashion-MNIST that is shipped with the package.

    python scripts/make_sample.py

reads Fashion-MNIST where cnnbench finds it, writes cnnbench/data/sample/ and prints the SHA-256 digests
that cnnbench/data/catalog.py must name. The first examples of each class are taken, in the order in
which they stand in the full set, so the files depend on the full set alone.
"""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnbench.data.catalog import FILES, get
from cnnbench.data.download import load

FOLDER = Path(__file__).parents[1] / "cnnbench" / "data" / "sample"
EXAMPLES_PER_CLASS = {"train": 500, "t10k": 100}


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    return (
        b"\x00\x00\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def main() -> None:
    arrays = dict(zip(FILES, load(get("fashion_mnist"))[1], strict=True))
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        part = name.partition("-")[0]
        labels = arrays[f"{part}-labels-idx1-ubyte"]
        chosen = np.sort(
            np.concatenate(
                [np.flatnonzero(labels == label)[: EXAMPLES_PER_CLASS[part]] for label in range(10)]
            )
        )
        content = idx(arrays[name][chosen])
        (FOLDER / f"{name}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
        print(hashlib.sha256(content).hexdigest(), name)


if __name__ == "__main__":
    main()
