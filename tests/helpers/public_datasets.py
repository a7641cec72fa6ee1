"""Public data sets with made-up images, in the formats of the real files."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import PublicDataset, get

__all__ = ["encode_idx", "make_archive", "make_cifar_files", "make_images", "make_published"]

NUM_TRAIN, NUM_TEST = 50, 20
Files = dict[str, bytes]


def make_images(name: str) -> Arrays:
    """Return 50 images for training and 20 for testing, with a color for each of ten classes."""
    generator = np.random.default_rng(0)
    dataset = get(name)
    channels = () if dataset.in_channels == 1 else (3,)
    parts: list[Any] = []
    for number in (NUM_TRAIN, NUM_TEST):
        labels = generator.permutation(np.arange(number) % 10).astype(np.uint8)
        colors = np.random.default_rng(7).integers(40, 216, (10, *channels, 1, 1))[labels]
        shape = (number, *channels, dataset.image_size, dataset.image_size)
        images = np.clip(colors + generator.integers(-40, 40, shape), 0, 255)
        parts += [images.astype(np.uint8), labels]
    return Arrays(*parts)


def make_published(name: str) -> tuple[PublicDataset, Files]:
    """Return the data set `name` with made-up images, and its files."""
    dataset, arrays = get(name), make_images(name)
    if name.startswith("cifar"):
        contents = [
            make_archive(make_cifar_files(name, arrays, is_binary)) for is_binary in (False, True)
        ]
    elif name.startswith("emnist"):
        contents = [_emnist_zip(dataset, arrays)]
    else:
        contents = [encode_idx(array) for array in arrays[:4]]
        if name == "qmnist":
            contents[1::2] = [_long_labels(labels) for labels in arrays[1:4:2]]
        if name in ("kmnist", "qmnist"):
            contents = [gzip.compress(content) for content in contents]
    files = dict(zip(dataset.sha256, contents, strict=True))
    changed = dataclasses.replace(
        dataset,
        archives={file: len(files[file]) for file in dataset.archives},
        sha256={file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
        train_examples=NUM_TRAIN,
        test_examples=NUM_TEST,
    )
    return changed, files


def encode_idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return the IDX file of an array."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def _long_labels(labels: npt.NDArray[Any]) -> bytes:
    """Return QMNIST's labels: eight columns of 32-bit integers, the first one is the class."""
    rows = np.arange(8 * len(labels)).reshape(-1, 8)
    rows[:, 0] = labels
    return b"\x00\x00\x0c\x02" + struct.pack(">2I", *rows.shape) + rows.astype(">i4").tobytes()


def _emnist_zip(dataset: PublicDataset, arrays: Arrays) -> bytes:
    """Return EMNIST's archive with this part: images column by column, letters counted from 1."""
    part = dataset.name.removeprefix("emnist_")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"gzip/emnist-{part}-mapping.txt", "0 48\n")
        for split, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:4])):
            first = 1 if part == "letters" else 0
            contents = {
                "images-idx3": images.swapaxes(1, 2),
                "labels-idx1": labels + np.uint8(first),
            }
            for kind, array in contents.items():
                file = f"gzip/emnist-{part}-{split}-{kind}-ubyte.gz"
                archive.writestr(file, gzip.compress(encode_idx(array)))
    return packed.getvalue()


def make_cifar_files(name: str, arrays: Arrays, is_binary: bool) -> Files:
    """Return the files in an archive of CIFAR, the binary one or that for Python."""
    is_fine = name == "cifar100"
    if is_fine:
        parts = {"train": arrays[:2]}
    else:
        batches = zip(np.array_split(arrays[0], 5), np.array_split(arrays[1], 5), strict=True)
        parts = {f"data_batch_{number}": batch for number, batch in enumerate(batches, 1)}
    parts["test" if is_fine else "test_batch"] = arrays[2:4]
    files = {"folder/readme.html": b"<html>", "folder/meta": pickle.dumps({"label_names": []})}
    for file, (images, labels) in parts.items():
        pixels = images.reshape(len(images), -1)
        if is_binary:
            columns = [labels[:, None] // 5, labels[:, None], pixels]
            rows = np.concatenate(columns if is_fine else columns[1:], axis=1)
            files[f"folder/{file}.bin"] = rows.astype(np.uint8).tobytes()
        else:
            values = {b"labels": labels.tolist()}
            if is_fine:
                values = {b"fine_labels": labels.tolist(), b"coarse_labels": [0] * len(labels)}
            files[f"folder/{file}"] = _pickle({b"data": pixels, **values})
    return files


class PythonTwoPickler(pickle._Pickler):  # type: ignore[name-defined]  # private, but extensible
    """A pickler that writes byte strings as Python 2 wrote `str`: the archives are from 2009."""

    dispatch: ClassVar[dict[type, Any]] = dict(
        pickle._Pickler.dispatch  # type: ignore[attr-defined]  # private
    )

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def _pickle(values: object) -> bytes:
    file = io.BytesIO()
    PythonTwoPickler(file, protocol=2).dump(values)
    return file.getvalue()


def make_archive(files: Files) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()
