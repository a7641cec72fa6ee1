"""Made-up CIFAR archives, in the forms that the real ones have."""

import dataclasses
import hashlib
import io
import pickle
import struct
import tarfile
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset, get

__all__ = ["archive_of", "binary_files", "made_up_cifar", "made_up_images", "python_files"]

NUM_TRAIN, NUM_TEST = 50, 20


def made_up_images(name: str, seed: int = 0) -> Arrays:
    """50 images to train on and 20 to test on, with a colour for each class of the first ten."""
    generator = np.random.default_rng(seed)
    parts: list[Any] = []
    for number in (NUM_TRAIN, NUM_TEST):
        labels = generator.permutation(np.arange(number) % 10).astype(np.uint8)
        colours = np.random.default_rng(7).integers(40, 216, (10, 3, 1, 1))[labels]
        parts += [np.clip(colours + generator.integers(-40, 40, (number, 3, 32, 32)), 0, 255).astype(np.uint8), labels]
    return Arrays(*parts)


def parts_of(name: str, arrays: Arrays) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """The images and labels of each file."""
    if name == "cifar100":
        return {"train": (arrays[0], arrays[1]), "test": (arrays[2], arrays[3])}
    train = zip(np.array_split(arrays[0], 5), np.array_split(arrays[1], 5), strict=True)
    return {**{f"data_batch_{i}": part for i, part in enumerate(train, 1)}, "test_batch": (arrays[2], arrays[3])}


def binary_files(name: str, arrays: Arrays) -> dict[str, bytes]:
    folder = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}[name]
    files = {f"{folder}/batches.meta.txt": b"airplane\n"}
    for file, (images, labels) in parts_of(name, arrays).items():
        coarse = [labels[:, None] // 5] if name == "cifar100" else []
        rows = np.concatenate([*coarse, labels[:, None], images.reshape(len(images), -1)], axis=1)
        files[f"{folder}/{file}.bin"] = rows.astype(np.uint8).tobytes()
    return files


def python_files(name: str, arrays: Arrays) -> dict[str, bytes]:
    folder = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    files = {f"{folder}/readme.html": b"<html>", f"{folder}/batches.meta": pickle_of({b"label_names": [b"airplane"]})}
    for file, (images, labels) in parts_of(name, arrays).items():
        own = {b"fine_labels": labels.tolist(), b"coarse_labels": [0] * len(labels)}
        values = own if name == "cifar100" else {b"labels": labels.tolist()}
        files[f"{folder}/{file}"] = pickle_of({b"data": images.reshape(len(images), -1), **values})
    return files


class PythonTwoPickler(pickle._Pickler):  # type: ignore[name-defined]  # the one in Python, which can be changed
    """Writes byte strings as Python 2 did, whose `str` they were: the archives are of 2009."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]  # private

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def pickle_of(values: object) -> bytes:
    file = io.BytesIO()
    PythonTwoPickler(file, protocol=2).dump(values)
    return file.getvalue()


def archive_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def made_up_cifar(name: str, arrays: Arrays) -> tuple[Dataset, dict[str, bytes]]:
    """The data set `name` with this content instead of its own, and its archives by name."""
    archives = dict(
        zip(
            get(name).archives,
            (archive_of(files(name, arrays)) for files in (python_files, binary_files)),
            strict=True,
        )
    )
    dataset = dataclasses.replace(
        get(name),
        archives={file: len(content) for file, content in archives.items()},
        sha256={file: hashlib.sha256(content).hexdigest() for file, content in archives.items()},
        train_examples=len(arrays.train_labels),
        test_examples=len(arrays.test_labels),
        mirrors=(),
    )
    return dataset, archives
