"""A folder of one's own with image files."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from cnnbench.config import DataConfig
from cnnbench.data.arrays import Arrays
from cnnbench.data.images import are_grey, read_images
from cnnbench.data.listing import ImageFile, Listing, list_images
from cnnbench.data.own import OwnData, refuse, shown
from cnnbench.errors import ConfigError

__all__ = ["open_images"]


def open_images(folder: Path, config: DataConfig) -> OwnData:
    """The data set in `folder`, laid out as `list_images` has it; images are squeezed to data.image_size, square.

    Raises:
        DataError: what is there is no such data set.
        ConfigError: the network is to see larger images than are kept.
    """
    size = config.resize if config.image_size is None else config.image_size
    if config.resize > size:
        raise ConfigError(
            f"data.resize={config.resize} would enlarge images that are kept at data.image_size={size}. "
            f"Set data.image_size={config.resize}; data.resize follows it."
        )
    listing = list_images(folder)
    files = (*listing.train, *listing.validation, *listing.test)
    title = f"reading {shown(folder.resolve().name)}"
    if listing.problems:  # report damaged images with them, not only after they are mended
        reading = read_images([file.path for file in files], 1, 1, title)
        raise refuse(folder, [*listing.problems, *reading.problems])
    in_channels = config.channels or (1 if _are_grey(files) else 3)
    num_validation = len(listing.validation)
    kind = np.uint8 if len(listing.classes) <= 256 else np.int32

    def read() -> tuple[Arrays, Sequence[str]]:
        reading = read_images([file.path for file in files], in_channels, size, title)
        if reading.problems:
            raise refuse(folder, reading.problems)
        pixels, labels = reading.pixels, np.array([file.label for file in files], kind)
        test = len(files) - len(listing.test)
        arrays = Arrays(pixels[:test], labels[:test], pixels[test:], labels[test:], num_validation)
        return arrays, _misnamed(folder, reading.misnamed)

    return OwnData(
        classes=listing.classes,
        num_train=len(listing.train) + num_validation,
        num_test=len(listing.test),
        in_channels=in_channels,
        image_size=size,
        content=(files, size, in_channels),
        read=read,
        split_here=listing.split_here,
        num_validation=num_validation,
        notes=(*_validation(listing, config), *listing.notes),
    )


def _validation(listing: Listing, config: DataConfig) -> list[str]:
    """Return a note on the use of the validation part, if there is one."""
    name, number = shown(listing.validation_folder), len(listing.validation)
    if not number:
        return []
    if config.folds is not None:
        together = f"the training images and the {number:,} images in {name}/ together"
        return [f"data.folds={config.folds} divides {together}."]
    if not config.validation:  # the user asked for it, or the network is only tested
        return []
    return [f"Validation set: the {number:,} images in {name}/; data.validation is not used."]


def _misnamed(folder: Path, misnamed: Mapping[str, str]) -> list[str]:
    """Return a note on the images that are named for another format."""
    if not misnamed:
        return []
    path, format_ = next(iter(misnamed.items()))
    example = f"{shown(Path(path).relative_to(folder))}, which is {format_}"
    return [f"{len(misnamed):,} images are named for another format, such as {example}."]


@lru_cache(maxsize=1)  # it is asked when a configuration is checked and when the images are read
def _are_grey(files: tuple[ImageFile, ...]) -> bool:
    return are_grey([file.path for file in files])
