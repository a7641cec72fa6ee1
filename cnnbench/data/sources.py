"""The data set that a configuration names."""

from cnnbench.config import DataConfig
from cnnbench.data import catalog, storage
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset

__all__ = ["facts", "load", "read_ahead"]


def facts(config: DataConfig) -> Dataset:
    return catalog.get(config.name)


def load(config: DataConfig) -> tuple[Dataset, Arrays]:
    dataset = catalog.get(config.name)
    return dataset, storage.load(dataset, config.root)


def read_ahead(config: DataConfig) -> None:
    """Begin to read in the background what the next `load` will want, where that takes no word with anyone."""
    storage.read_ahead(catalog.get(config.name), config.root)
