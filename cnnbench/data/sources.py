"""The data set that a configuration names: one of the catalog, or a folder of the user's own."""

from collections.abc import Sequence

from cnnbench.config import FOLDER, DataConfig
from cnnbench.data import catalog, folder, storage
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset

__all__ = ["facts", "load", "normalization", "read_ahead"]


def facts(config: DataConfig) -> Dataset:
    """What is known of the data set before it is read; of a folder that is neither mean and deviation nor digests.

    Raises:
        ConfigError: there is no such data set.
        DataError: the folder holds none.
    """
    return folder.dataset_info(config) if config.name == FOLDER else catalog.get(config.name)


def load(config: DataConfig) -> tuple[Dataset, Arrays]:
    """The data set with all that is to be known of it, found, fetched or read; it stays in memory for the next time.

    Raises:
        ConfigError: there is no such data set.
        DataError: it is nowhere to be had, or damaged.
    """
    if config.name == FOLDER:
        return folder.load(config)
    dataset = catalog.get(config.name)
    return dataset, storage.load(dataset, config.root)


def normalization(config: DataConfig, dataset: Dataset) -> tuple[Sequence[float], Sequence[float]]:
    """For each channel what is taken from pixels in [0, 1], and what they are then divided by."""
    if config.normalize:
        return dataset.mean, dataset.std
    return (0.0,) * dataset.in_channels, (1.0,) * dataset.in_channels


def read_ahead(config: DataConfig) -> None:
    """Begin to read for the next `load` in the background, where nobody need be told of it."""
    if config.name != FOLDER:
        storage.read_ahead(catalog.get(config.name), config.root)
