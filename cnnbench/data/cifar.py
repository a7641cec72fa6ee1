"""The archives of CIFAR-10 and CIFAR-100 (www.cs.toronto.edu/~kriz/cifar.html), in their two forms."""

import pickle
import tarfile
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from cnnbench.data.arrays import Arrays, Images, Labels

__all__ = ["parse_archive"]

SHAPE = (3, 32, 32)  # of an image: red, green and blue, each row by row
TEST = ("test", "test_batch")


def parse_archive(archive: bytes) -> Arrays:
    """The content of an archive, which must have been verified: images [N, 3, 32, 32], of CIFAR-100 the fine labels.

    The binary archives hold a row for each image: its label, or coarse and fine label, then the pixels. The Python
    archives hold pickled dictionaries with an array of the pixels and a list of the labels.
    """
    parts: dict[str, tuple[Images, Labels]] = {}
    with tarfile.open(fileobj=BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            name = PurePosixPath(member.name).name.removesuffix(".bin")
            if name in (*TEST, "train") or name.startswith("data_batch_"):
                file = tar.extractfile(member)
                assert file is not None
                parse = _parse_rows if member.name.endswith(".bin") else _parse_pickle
                parts[name] = parse(file.read(), 2 if name in ("train", "test") else 1)
    (test,) = (part for name, part in parts.items() if name in TEST)
    train = [part for name, part in sorted(parts.items()) if name not in TEST]
    images, labels = (np.concatenate([part[place] for part in train]) for place in (0, 1))
    return Arrays(images, labels, np.ascontiguousarray(test[0]), np.ascontiguousarray(test[1]))


def _parse_rows(content: bytes, num_labels: int) -> tuple[Images, Labels]:
    """Of several labels a row has, the last one is the finest."""
    rows = np.frombuffer(content, np.uint8).reshape(-1, num_labels + int(np.prod(SHAPE)))
    return rows[:, num_labels:].reshape(-1, *SHAPE), rows[:, num_labels - 1]


def _parse_pickle(content: bytes, num_labels: int) -> tuple[Images, Labels]:
    batch = _PlainUnpickler(BytesIO(content), encoding="bytes").load()
    labels = batch[b"labels" if num_labels == 1 else b"fine_labels"]
    return batch[b"data"].reshape(-1, *SHAPE), np.array(labels, np.uint8)


class _PlainUnpickler(pickle.Unpickler):
    """Makes plain values and NumPy arrays, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        made_of = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}
        if module.partition(".")[0] == "numpy" and name in made_of:
            return made_of[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
