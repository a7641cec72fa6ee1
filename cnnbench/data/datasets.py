"""Load the data set that a configuration names: a public one, or a folder dataset."""

from collections.abc import Sequence

from cnnbench.config import FOLDER, DataConfig
from cnnbench.data import catalog, download, folder
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset

__all__ = ["dataset_info", "load_dataset", "normalization", "prefetch_dataset"]


def dataset_info(config: DataConfig) -> Dataset:
    """Return the facts about the data set that are known before it is read.

    Mean, standard deviation and digests of a folder dataset are not known yet.

    Raises:
        ConfigError: there is no such data set.
        DataError: the folder holds no data set.
    """
    return folder.folder_info(config) if config.name == FOLDER else catalog.get(config.name)


def load_dataset(config: DataConfig) -> tuple[Dataset, Arrays]:
    """Find or download the data set and return it with its content; cache it for the next call.

    Raises:
        ConfigError: there is no such data set.
        DataError: it cannot be found or downloaded, or is damaged.
    """
    if config.name == FOLDER:
        return folder.load_folder(config)
    return download.load_public_dataset(catalog.get(config.name), config.root)


def prefetch_dataset(config: DataConfig) -> None:
    """Begin to read a public data set in the background, for the next `load_dataset`."""
    if config.name != FOLDER:
        download.prefetch_public_dataset(catalog.get(config.name), config.root)


def normalization(config: DataConfig, dataset: Dataset) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean to subtract and the std to divide by, for each channel of pixels in [0, 1].

    Without data.normalize these are 0 and 1.
    """
    if config.normalize:
        return dataset.mean, dataset.std
    return (0.0,) * dataset.in_channels, (1.0,) * dataset.in_channels
