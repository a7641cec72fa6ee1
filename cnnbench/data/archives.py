"""Parse the files of a public data set: IDX files, and the archives of EMNIST and CIFAR."""

import gzip
import pickle
import tarfile
import zipfile
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from cnnbench.data.arrays import Arrays, Images, Labels
from cnnbench.data.catalog import PublicDataset
from cnnbench.data.idx import parse_idx

__all__ = ["parse_files"]


def parse_files(dataset: PublicDataset, files: list[bytes]) -> Arrays:
    """Return the images and labels in the files of a public data set.

    The files must have been verified, because those of CIFAR are unpickled.
    """
    if dataset.source.startswith("CIFAR"):
        return _parse_cifar(files[0])
    is_emnist = dataset.source == "EMNIST"
    if is_emnist:
        files = _unzip_emnist(dataset.options["split"], files[0])
    train, train_labels, test, test_labels = (_parse_idx(file) for file in files)
    if is_emnist:  # EMNIST stores images column by column
        train, test = (np.ascontiguousarray(images.swapaxes(1, 2)) for images in (train, test))
    first = dataset.first_label
    return Arrays(train, train_labels - first, test, test_labels - first)


def _unzip_emnist(split: str, archive: bytes) -> list[bytes]:
    names = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    with zipfile.ZipFile(BytesIO(archive)) as members:
        packed = [members.read(f"gzip/emnist-{split}-{name}-ubyte.gz") for name in names]
    return [gzip.decompress(content) for content in packed]


def _parse_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """Return the array in an IDX file; from QMNIST's label files, return the classes."""
    if content.startswith(b"\0\0\x0c\2"):  # QMNIST: eight 32-bit integers per image, class first
        rows = np.frombuffer(content, ">i4", offset=12).reshape(-1, 8)
        return rows[:, 0].astype(np.uint8)
    return parse_idx(content)


def _parse_cifar(archive: bytes) -> Arrays:
    """Return images [N, 3, 32, 32] and labels of CIFAR-10, or with fine labels of CIFAR-100.

    The binary archives hold one row per image: the label (CIFAR-100: the coarse label, then the
    fine one), then the pixels. The Python archives hold pickled dictionaries of pixels and labels.
    """
    parts: dict[str, tuple[Images, Labels]] = {}
    with tarfile.open(fileobj=BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            name = PurePosixPath(member.name).name.removesuffix(".bin")
            file = tar.extractfile(member)
            if file is None or not name.startswith(("data_batch_", "train", "test")):
                continue
            is_cifar100 = name in ("train", "test")
            if member.name.endswith(".bin"):
                num_labels = 2 if is_cifar100 else 1
                rows = np.frombuffer(file.read(), np.uint8).reshape(-1, num_labels + 3 * 32 * 32)
                pixels, labels = rows[:, num_labels:], rows[:, num_labels - 1]
            else:
                batch = pickle.load(file, encoding="bytes")
                pixels = batch[b"data"]
                key = b"fine_labels" if is_cifar100 else b"labels"
                labels = np.array(batch[key], np.uint8)
            parts[name] = pixels.reshape(-1, 3, 32, 32), labels
    test = [part for name, part in parts.items() if name.startswith("test")]
    train = [part for name, part in sorted(parts.items()) if not name.startswith("test")]
    return Arrays(*_concatenate(train), *_concatenate(test))


def _concatenate(parts: list[tuple[Images, Labels]]) -> tuple[Images, Labels]:
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)
