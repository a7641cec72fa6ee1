"""A folder of one's own with the four files of an IDX data set, named as MNIST's."""

import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import TypeVar

import numpy as np

from cnnbench.config import DataConfig
from cnnbench.data.arrays import Arrays, Labels
from cnnbench.data.cache import file_fingerprint
from cnnbench.data.catalog import FILES
from cnnbench.data.idx import read_idx, read_shape
from cnnbench.data.own import OwnData, class_name, refuse, shown
from cnnbench.errors import ConfigError, DataError

__all__ = ["holds_idx", "open_idx"]

CLASSES = "classes.txt"  # a name on each line, that of label 0 first
MOST_BYTES = 1 << 20  # of that file

T = TypeVar("T")


def holds_idx(folder: Path) -> bool:
    return any(_place(folder, file).is_file() for file in FILES)


def open_idx(folder: Path, config: DataConfig) -> OwnData:
    """The data set in the files of `folder`: images N x H x W or N x C x H x W with C 1 or 3, which stay as they are.

    The classes are called as classes.txt says or, without it, "0", "1" and so on.

    Raises:
        DataError: a file is missing, damaged or does not go with the others.
        ConfigError: data.channels is not what the files have.
    """
    paths = [_place(folder, file) for file in FILES]
    problems: list[str] = []
    shapes = [_told(path, read_shape, problems) for path in paths]
    if not problems:
        problems += _misfits(paths, [shape or () for shape in shapes])
    labels = [] if problems else [_told(path, read_idx, problems) for path in paths[1::2]]
    if problems:
        raise refuse(folder, problems)
    train_images, _, test_images, _ = (shape or () for shape in shapes)
    classes = _classes(folder, paths[1::2], [each for each in labels if each is not None])
    in_channels = 1 if len(train_images) == 3 else train_images[1]
    if config.channels not in (None, in_channels):
        raise ConfigError(
            f"data.channels={config.channels} is for image files. The IDX files in {shown(folder)} have images of "
            f"{in_channels} channels, which are taken as they are."
        )

    def read() -> tuple[Arrays, Sequence[str]]:
        arrays = [_told(path, read_idx, problems) for path in paths]
        if problems:
            raise refuse(folder, problems)
        train, train_labels, test, test_labels = (each for each in arrays if each is not None)
        return Arrays(train, train_labels, test, test_labels), ()

    return OwnData(
        classes=classes,
        num_train=train_images[0],
        num_test=test_images[0],
        in_channels=in_channels,
        image_size=max(train_images[-2:]),
        content=tuple(file_fingerprint(path) for path in (*paths, folder / CLASSES)),
        read=read,
    )


def _place(folder: Path, file: str) -> Path:
    """Where a file is, plain or gzipped; without either, where it would be."""
    plain, packed = folder / file, folder / f"{file}.gz"
    return packed if packed.is_file() and not plain.is_file() else plain


def _told(path: Path, read: Callable[[BufferedIOBase], T], problems: list[str]) -> T | None:
    """What `read` makes of the file, or None and one problem more."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return read(stream)
    except FileNotFoundError:
        problems.append(f"{shown(path)} is missing, also as {path.name}.gz.")
    except DataError as error:
        problems.append(f"{shown(path)}: {error}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problems.append(f"{shown(path)} is damaged or truncated ({error}).")
    except OSError as error:
        problems.append(f"{shown(path)} cannot be read: {error.strerror}.")
    return None


def _misfits(paths: list[Path], shapes: list[tuple[int, ...]]) -> list[str]:
    """What is wrong with the shapes, by themselves and together."""
    problems = []
    for images, labels in ((0, 1), (2, 3)):
        if len(shapes[images]) not in (3, 4) or (len(shapes[images]) == 4 and shapes[images][1] not in (1, 3)):
            problems.append(f"{shown(paths[images])} should hold images, and has the shape {_by(shapes[images])}.")
        if len(shapes[labels]) != 1:
            problems.append(f"{shown(paths[labels])} should hold labels, and has the shape {_by(shapes[labels])}.")
        elif shapes[images][0] != shapes[labels][0]:
            problems.append(
                f"{shown(paths[labels])} has {shapes[labels][0]:,} labels for the {shapes[images][0]:,} images of "
                f"{paths[images].name}."
            )
        if 0 in shapes[images]:
            problems.append(f"{shown(paths[images])} holds no images.")
    if not problems and shapes[0][1:] != shapes[2][1:]:
        problems.append(
            f"{shown(paths[2])} has images of {_by(shapes[2][1:])}, {paths[0].name} of {_by(shapes[0][1:])}."
        )
    return problems


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _classes(folder: Path, paths: list[Path], labels: list[Labels]) -> tuple[str, ...]:
    largest = max(int(each.max()) for each in labels)
    if len(np.unique(labels[0])) < 2:
        raise DataError(f"{shown(paths[0])} has a single label, {labels[0][0]}: there is nothing to tell apart.")
    names = _names(folder / CLASSES)
    if names is None:
        return tuple(map(str, range(largest + 1)))
    for path, each in zip(paths, labels, strict=True):
        if each.max() >= len(names):
            raise DataError(
                f"{shown(path)} has the label {each.max()} at image {each.argmax() + 1:,}, and {CLASSES} names "
                f"{len(names)} classes, those of 0 to {len(names) - 1}."
            )
    return names


def _names(path: Path) -> tuple[str, ...] | None:
    """The lines of classes.txt, None if there is no such file."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{shown(path)} cannot be read: {error}.") from error
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text.rstrip())]
    names = tuple(filter(None, map(class_name, lines)))
    if len(set(names)) < len(lines) or len(names) < 2:
        raise DataError(f"{shown(path)} must have the name of a class on each line, each another one and at least two.")
    return names
