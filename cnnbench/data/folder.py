"""Load a folder dataset (`data=folder`): image files in folders of classes, or IDX files."""

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.config import FOLDER, DataConfig
from cnnbench.data import cache
from cnnbench.data.arrays import Arrays, Labels, measure_mean_and_std
from cnnbench.data.catalog import FILES, Dataset
from cnnbench.data.idx import idx_digest, read_idx, read_idx_shape
from cnnbench.data.images import are_gray, find_unreadable, read_images
from cnnbench.data.scan_folder import (
    ImageFile,
    Listing,
    escape_name,
    list_images,
    normalize_class_name,
)
from cnnbench.data.user_folders import expand_user
from cnnbench.errors import ConfigError, DataError, format_count

__all__ = ["dataset_error", "folder_info", "load_folder"]

CLASSES_FILE = "classes.txt"  # beside IDX files: one class name per line, label 0 first
MAX_PROBLEMS = 10  # problems listed in a message; the others are counted
SKIP_ADVICE = "data.skip_unreadable=true leaves out what cannot be read."
SKIPPED = "What cannot be read is left out. The other problems remain."
MAX_EXAMPLES = 2  # examples in a note
LARGE_SHARE = 1.5  # a class of more than 1.5 times an even share of the images is noted

NameOf = Callable[[int], str]  # names an image by its index in the training, then test images
Reader = Callable[[], tuple[Arrays, list[str]]]  # returns the content and notes on it
Opened = tuple[Dataset, Hashable, Reader, NameOf]  # the second changes when the files change


@dataclass(frozen=True)
class _LabeledFiles:
    """The image files of the training, validation and test part, in this order, with labels.

    `num_train` counts the files of the first two parts, `num_validation` those of the second.
    """

    files: tuple[ImageFile, ...]
    labels: Labels
    num_train: int
    num_validation: int

    @staticmethod
    def from_listing(listing: Listing) -> "_LabeledFiles":
        """Label the files by the place of their class among those of the training part."""
        parts = (listing.train, listing.validation, listing.test)
        images = [[part.get(name, []) for name in listing.train] for part in parts]
        train, validation, _ = (sum(map(len, of_classes)) for of_classes in images)
        labels = [
            label for of_classes in images for label, files in enumerate(of_classes) for _ in files
        ]
        return _LabeledFiles(
            tuple(chain.from_iterable(chain.from_iterable(images))),
            np.array(labels, np.uint8 if len(listing.train) <= 256 else np.int32),
            train + validation,
            validation,
        )


def folder_info(config: DataConfig) -> Dataset:
    """Return the facts known without reading the images: all but mean, std and digests.

    Raises:
        DataError: the folder is not a data set.
        ConfigError: the configuration does not suit the folder.
    """
    info, *_ = _open(config)
    return info


def load_folder(config: DataConfig) -> tuple[Dataset, Arrays]:
    """Load the folder; measure mean and std of the training images and digests of the content.

    Raises:
        DataError: as `folder_info`, or images cannot be read, or all have one color.
        ConfigError: as `folder_info`.
    """
    info, content, read, name_of = _open(config)
    key = (info.path, content, info.notes, info.skipped)
    cached = cache.lookup(key)
    if cached is not None:
        return cached
    cache.clear()  # before reading, so that two data sets are never in memory
    arrays, notes = read()
    num_train = info.train_examples - info.validation_examples
    mean, std = measure_mean_and_std(arrays.train_images[:num_train])
    if 0 in std:
        raise DataError(f"All training images in {escape_name(info.path)} have one color.")
    digests = {file: idx_digest(array) for file, array in zip(FILES, arrays[:4], strict=True)}
    notes += _note_large_class(arrays.train_labels[:num_train], info.classes)
    notes += _note_copies(arrays, name_of)
    dataset = replace(info, mean=mean, std=std, sha256=digests, notes=(*info.notes, *notes))
    cache.store(key, [], dataset, arrays)
    return dataset, arrays


def _open(config: DataConfig) -> Opened:
    folder = expand_user(str(config.path))
    try:
        is_folder = folder.is_dir()
        has_idx = any(_find_idx(folder, file).is_file() for file in FILES)
    except OSError as error:  # the name is too long, or permission is missing
        raise DataError(
            f"data.path={escape_name(folder)} cannot be read: {error.strerror}."
        ) from error
    if not is_folder:
        where = "" if folder.is_absolute() else f" in {Path.cwd()}"
        raise DataError(
            f"data.path={escape_name(folder)}: there is no such folder{where}. "
            "Name the folder of your images."
        )
    return _open_idx(folder, config) if has_idx else _open_images(folder, config)


def _describe(folder: Path, in_channels: int, **info: Any) -> Dataset:
    folder = folder.resolve()
    return Dataset(
        name=FOLDER,
        title=escape_name(folder.name) or str(folder),
        mean=(0.0,) * in_channels,
        std=(1.0,) * in_channels,
        sha256={},
        licence="your own",
        path=str(folder),
        **info,
    )


def _open_images(folder: Path, config: DataConfig) -> Opened:
    """Open a folder of images, which are resized to squares of data.image_size."""
    size = config.image_size or config.resize
    if config.resize > size:
        raise ConfigError(
            f"data.resize={config.resize} would enlarge images that are kept at "
            f"data.image_size={size}. Set data.image_size={config.resize}; data.resize follows it."
        )
    title = f"reading {escape_name(folder.resolve().name)}"
    listing = list_images(folder)
    skipped = _find_unreadable(listing, title) if config.skip_unreadable else {}
    if skipped:
        listing = list_images(folder, skipped)
    labeled = _LabeledFiles.from_listing(listing)
    files, num_train, num_validation = labeled.files, labeled.num_train, labeled.num_validation
    if listing.problems:  # report damaged images together with the other problems
        damaged = skipped or find_unreadable(files, title)
        advice = SKIPPED if skipped else SKIP_ADVICE if damaged or listing.broken_links else ""
        raise dataset_error(folder, [*listing.problems, *damaged.values()], advice)
    in_channels = config.channels
    if in_channels is None:
        in_channels = 1 if are_gray(files) else 3

    def name_of(index: int) -> str:
        return _relative_name(files[index].path, folder)

    def read() -> tuple[Arrays, list[str]]:
        pixels, problems, notes = read_images(files, in_channels, size, title)
        if problems:
            raise dataset_error(folder, list(problems.values()), SKIP_ADVICE)
        train, test = np.split(labeled.labels, [num_train])
        parts = (pixels[:num_train], train, pixels[num_train:], test)
        return Arrays(*parts, num_validation), notes

    notes = listing.notes
    if num_validation and config.validation and config.folds is None:
        used = f"the {format_count(num_validation, 'image')} of the validation folder"
        notes.insert(0, f"Validation set: {used}; data.validation is not used.")
    if skipped:
        left_out = f"Left out, as data.skip_unreadable=true: {format_count(len(skipped), 'file')}."
        notes.insert(0, " ".join([left_out, *list(skipped.values())[:MAX_EXAMPLES]]))
    info = _describe(
        folder,
        in_channels,
        classes=tuple(listing.train),
        train_examples=num_train,
        test_examples=len(files) - num_train,
        validation_examples=num_validation,
        image_size=size,
        skipped=tuple(sorted(_relative_name(path, folder) for path in skipped)),
        split_here=listing.split_here,
        notes=tuple(notes),
    )
    return info, (*files, size, in_channels), read, name_of


def _find_unreadable(listing: Listing, title: str) -> dict[str, str]:
    """Return the problems of the files of all parts that cannot be read, by path."""
    classes = chain(*(part.values() for part in (listing.train, listing.validation, listing.test)))
    files = tuple(chain.from_iterable(classes))
    return {**listing.broken_links, **find_unreadable(files, title)}


def _relative_name(path: str, folder: Path) -> str:
    return escape_name(os.path.relpath(path, folder))


def dataset_error(folder: Path, problems: Sequence[str], advice: str = "") -> DataError:
    """Return an error with the first problems in a folder, the number of others and advice."""
    problems = list(dict.fromkeys(problems))
    if len(problems) == 1:
        return DataError(f"{problems[0]} {advice}".rstrip())
    lines = [
        f"There are {len(problems):,} problems in {escape_name(folder)}:",
        *problems[:MAX_PROBLEMS],
    ]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"and {len(problems) - MAX_PROBLEMS:,} more")
    return DataError("\n  ".join(lines) + f"\n{advice}".rstrip())


def _note_large_class(labels: Labels, classes: Sequence[str]) -> list[str]:
    """Return a note on the largest class if its share of the images is large."""
    counts = np.bincount(labels)
    share, even = counts.max() / len(labels), 1 / len(classes)
    name = escape_name(classes[int(counts.argmax())])
    note = f"{share:.0%} of the training images are of class {name}; an even share is {even:.0%}."
    return [note] if share > LARGE_SHARE * even else []


def _note_copies(arrays: Arrays, name_of: NameOf) -> list[str]:
    """Return notes on equal images in two classes, and on test images that are also trained on.

    The former cannot be learned, the latter bias the accuracy.
    """
    num_train = len(arrays.train_images)
    labels = np.concatenate([arrays.train_labels, arrays.test_labels])
    firsts: dict[int, int] = {}  # the first image with these pixels, by their hash
    mixed: dict[int, int] = {}  # by such an image, an equal one of another class
    trained_on: dict[int, int] = {}  # by a test image, the training image that equals it
    for index, image in enumerate(chain(arrays.train_images, arrays.test_images)):
        first = firsts.setdefault(hash(image.tobytes()), index)
        if index == first:
            continue
        if labels[index] != labels[first]:
            mixed.setdefault(first, index)
        if first < num_train <= index:
            trained_on[index] = first

    def give_examples(pairs: Mapping[int, int]) -> str:
        first_pairs = list(pairs.items())[:MAX_EXAMPLES]
        return ", ".join(f"{name_of(one)} = {name_of(other)}" for one, other in first_pairs)

    notes = []
    if mixed:
        several = format_count(len(mixed), "image")
        notes.append(
            f"In several classes, pixel for pixel: {several}, such as {give_examples(mixed)}."
        )
    if trained_on:
        of_all = f"{len(trained_on):,} of the {format_count(len(arrays.test_images), 'test image')}"
        examples = give_examples(trained_on)
        notes.append(f"{of_all} are also among the training images, such as {examples}.")
    return notes


def _find_idx(folder: Path, file: str) -> Path:
    """Return the path of a plain file or else a gzipped one; if neither exists, the plain path."""
    plain, packed = folder / file, folder / f"{file}.gz"
    return packed if packed.is_file() and not plain.is_file() else plain


def _open_idx(folder: Path, config: DataConfig) -> Opened:
    """Open a folder of IDX files, images N x H x W or N x C x H x W with C 1 or 3."""
    paths = [_find_idx(folder, file) for file in FILES]
    train, _, test, _ = shapes = [read_idx_shape(path) for path in paths]
    _check_idx_shapes(paths, shapes)
    in_channels = 1 if len(train) == 3 else train[1]
    if config.channels not in (None, in_channels):
        raise ConfigError(
            f"data.channels={config.channels} is for image files. "
            f"The IDX files in {escape_name(folder)} have images of "
            f"{format_count(in_channels, 'channel')}, which are taken as they are."
        )

    def name_of(index: int) -> str:
        num_train = shapes[0][0]
        return f"{FILES[0]}[{index}]" if index < num_train else f"{FILES[2]}[{index - num_train}]"

    def read() -> tuple[Arrays, list[str]]:
        train, train_labels, test, test_labels = map(read_idx, paths)
        return Arrays(train, train_labels, test, test_labels), []

    info = _describe(
        folder,
        in_channels,
        classes=_read_idx_classes(folder, paths[1::2]),
        train_examples=train[0],
        test_examples=test[0],
        image_size=max(train[-2:]),
    )
    content = tuple(cache.file_fingerprint(path) for path in (*paths, folder / CLASSES_FILE))
    return info, content, read, name_of


def _check_idx_shapes(paths: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> None:
    for index in (0, 2):
        images, labels = shapes[index : index + 2]
        is_images = len(images) == 3 or (len(images) == 4 and images[1] in (1, 3))
        if not is_images or 0 in images:
            path, shape = escape_name(paths[index]), _format_shape(images)
            raise DataError(f"{path} should hold images; its shape is {shape}.")
        if labels != images[:1]:
            raise DataError(
                f"{escape_name(paths[index + 1])} should hold {images[0]:,} labels, "
                f"one for each image; its shape is {_format_shape(labels)}."
            )
    if shapes[0][1:] != shapes[2][1:]:
        train_size, test_size = (_format_shape(shapes[index][1:]) for index in (0, 2))
        raise DataError(
            f"{escape_name(paths[2])} has images of {test_size}, {paths[0].name} of {train_size}."
        )


def _format_shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _read_idx_classes(folder: Path, paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the names in classes.txt or, without it, the numbers from 0 to the largest label."""
    train_labels, test_labels = (read_idx(path) for path in paths)
    if len(np.unique(train_labels)) < 2:
        raise DataError(
            f"{escape_name(paths[0])} has a single label, {train_labels[0]}: training needs images "
            "of at least two classes."
        )
    num_labels = int(max(train_labels.max(), test_labels.max())) + 1
    path = folder / CLASSES_FILE
    try:
        lines = path.read_text("utf-8-sig").rstrip().split("\n")
    except FileNotFoundError:
        return tuple(map(str, range(num_labels)))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{escape_name(path)} cannot be read: {error}.") from error
    names = tuple(filter(None, [normalize_class_name(line.strip()) for line in lines]))
    if len(set(names)) < max(len(lines), 2, num_labels):
        raise DataError(
            f"{escape_name(path)} must have the name of a class on each line, all different, "
            f"and at least {max(2, num_labels)} for labels up to {num_labels - 1}."
        )
    return names
