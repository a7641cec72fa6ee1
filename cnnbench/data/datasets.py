"""The data set that a configuration names: a public one, or a folder of images."""

from collections.abc import Sequence

from cnnbench.config import FOLDER, DataConfig
from cnnbench.data import catalog, download, folder
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset

__all__ = ["dataset_info", "load", "normalization", "prefetch"]


def dataset_info(config: DataConfig) -> Dataset:
    """Return what is known of the data set before it is read.

    Mean, standard deviation and digests of a folder are not.

    Raises:
        ConfigError: there is no such data set.
        DataError: the folder holds none.
    """
    return folder.facts(config) if config.name == FOLDER else catalog.get(config.name)


def load(config: DataConfig) -> tuple[Dataset, Arrays]:
    """Return the data set and its content, found, fetched or read; keep it for the next call.

    Raises:
        ConfigError: there is no such data set.
        DataError: it cannot be found or fetched, or is damaged.
    """
    if config.name == FOLDER:
        return folder.load(config)
    return download.load(catalog.get(config.name), config.root)


def prefetch(config: DataConfig) -> None:
    """Begin to read for the next `load` in the background, where it has nothing to report."""
    if config.name != FOLDER:
        download.prefetch(catalog.get(config.name), config.root)


def normalization(config: DataConfig, dataset: Dataset) -> tuple[Sequence[float], Sequence[float]]:
    """Return for each channel what is taken from pixels in [0, 1], and what they are divided by."""
    if config.normalize:
        return dataset.mean, dataset.std
    return (0.0,) * dataset.in_channels, (1.0,) * dataset.in_channels
