"""`data=folder`: the user's own images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnnbench.config import FOLDER, DataConfig
from cnnbench.data import cache
from cnnbench.data.arrays import Arrays, Labels, mean_and_deviation
from cnnbench.data.catalog import FILES, Dataset
from cnnbench.data.idx import idx_digest
from cnnbench.data.idx_folder import holds_idx, open_idx
from cnnbench.data.image_folder import open_images
from cnnbench.data.own import OwnData, shown
from cnnbench.data.user_folders import expand_user
from cnnbench.errors import DataError

__all__ = ["facts", "load"]

DIGITS = 4  # of mean and deviation, as many as of data sets that are known
LARGE_CLASS = 1.5  # times an even share of the training images, above which a note says so


def facts(config: DataConfig) -> Dataset:
    """What is known of the folder without reading the images; mean and deviation, and the digests, are not.

    Raises:
        DataError: what is there is no data set.
        ConfigError: it does not go with the configuration.
    """
    return _facts(_folder(config), _open(config))


def load(config: DataConfig) -> tuple[Dataset, Arrays]:
    """All of the folder, with mean and deviation of the training images, and the digests of the content.

    Raises:
        DataError, ConfigError: as `facts`; or images cannot be read, or are all alike.
    """
    folder, own = _folder(config), _open(config)
    key = (folder.resolve(), own.content, own.notes)
    recalled = cache.lookup(key)
    if recalled is not None:
        return recalled
    cache.clear()  # before others are read, so that both are never in memory
    arrays, notes = own.read()
    num_trained = own.num_train - own.num_validation
    measured = mean_and_deviation(arrays.train_images[:num_trained])
    mean, std = (tuple(round(value, DIGITS) for value in values) for values in measured)
    if 0 in std:
        where = f" in channel {std.index(0) + 1} of 3" if len(std) > 1 else ""
        raise DataError(f"The training images in {shown(folder)} have one and the same value everywhere{where}.")
    digests = {file: idx_digest(array) for file, array in zip(FILES, arrays[:4], strict=True)}
    largest = _largest(arrays.train_labels[:num_trained], own.classes)
    notes = (*own.notes, *notes, *largest, *_copies(arrays))
    dataset = replace(_facts(folder, own), mean=mean, std=std, sha256=digests, notes=notes)
    cache.store(key, [], dataset, arrays)
    return dataset, arrays


def _largest(labels: Labels, classes: Sequence[str]) -> list[str]:
    """Return a note on the largest class if it has far more than an even share of the images."""
    counts = np.bincount(labels)
    largest = int(counts.argmax())
    share, even = counts[largest] / len(labels), 1 / len(classes)
    if share <= LARGE_CLASS * even:
        return []
    name = shown(classes[largest])
    return [f"{share:.0%} of the training images are of class {name}; an even share is {even:.0%}."]


def _copies(arrays: Arrays) -> list[str]:
    """Return a note on the test images that are also training images: these measure memory."""
    known = {hash(image.tobytes()) for image in arrays.train_images}
    copies = sum(hash(image.tobytes()) in known for image in arrays.test_images)
    if not copies:
        return []
    number = len(arrays.test_images)
    return [f"{copies:,} of the {number:,} test images are also among the training images."]


def _folder(config: DataConfig) -> Path:
    assert config.path is not None
    return expand_user(config.path)


def _open(config: DataConfig) -> OwnData:
    folder = _folder(config)
    try:
        if not folder.is_dir():
            is_what = "is a file, not a folder" if folder.exists() else "is not there"
            where = "" if folder.is_absolute() else f" (looked for in {Path.cwd()})"
            raise DataError(f"data.path={shown(folder)} {is_what}{where}. Name the folder of your images.")
        is_idx = holds_idx(folder)
    except OSError as error:  # a folder that may not be entered, or a name too long for one
        raise DataError(f"data.path={shown(folder)} cannot be looked into: {error.strerror}.") from error
    return open_idx(folder, config) if is_idx else open_images(folder, config)


def _facts(folder: Path, own: OwnData) -> Dataset:
    return Dataset(
        name=FOLDER,
        title=shown(folder.resolve().name) or str(folder),
        classes=own.classes,
        mean=(0.0,) * own.in_channels,
        std=(1.0,) * own.in_channels,
        train_examples=own.num_train,
        test_examples=own.num_test,
        validation_examples=own.num_validation,
        sha256={},
        licence="your own",
        path=str(folder.resolve()),
        image_size=own.image_size,
        split_here=own.split_here,
        notes=own.notes,
    )
