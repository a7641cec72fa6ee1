"""A folder of one's own with PNG and JPEG files."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from cnnbench.config import DataConfig
from cnnbench.data.arrays import Arrays, Labels
from cnnbench.data.images import are_grey, read_images
from cnnbench.data.listing import ImageFile, list_images
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
    files = (*listing.train, *listing.test)
    in_channels = config.channels or (1 if _are_grey(files) else 3)
    kind = np.uint8 if len(listing.classes) <= 256 else np.int32

    def read() -> Arrays:
        pixels, problems = read_images(
            [file.path for file in files], in_channels, size, f"reading {shown(folder.resolve().name)}"
        )
        if problems:
            raise refuse(folder, problems)
        middle = len(listing.train)
        return Arrays(pixels[:middle], _labels(listing.train, kind), pixels[middle:], _labels(listing.test, kind))

    return OwnData(
        classes=listing.classes,
        num_train=len(listing.train),
        num_test=len(listing.test),
        in_channels=in_channels,
        image_size=size,
        content=(files, size, in_channels),
        read=read,
        split_here=listing.split_here,
        notes=listing.notes,
    )


def _labels(files: Sequence[ImageFile], kind: type[np.uint8 | np.int32]) -> Labels:
    return np.array([file.label for file in files], kind)


@lru_cache(maxsize=1)  # it is asked when a configuration is checked and when the images are read
def _are_grey(files: tuple[ImageFile, ...]) -> bool:
    return are_grey([file.path for file in files])
