"""What a trained network is measured on: the test set of its own data, or of others."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cnnbench.commands.trained import Trained
from cnnbench.config import FOLDER, DataConfig
from cnnbench.data import sources
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset
from cnnbench.data.parts import find_test_folder
from cnnbench.data.resident import Examples, ResidentData
from cnnbench.data.splits import check_sizes
from cnnbench.errors import ConfigError

__all__ = ["TestSet", "load_test_set"]


@dataclass(frozen=True)
class TestSet:
    """`examples` on the network's device, their labels as it was taught them.

    `title` says what they are, such as "the test set of MNIST"; `notes` are for people.
    """

    __test__ = False  # pytest collects what is called Test...

    dataset: Dataset
    title: str
    examples: Examples
    notes: tuple[str, ...]


def load_test_set(trained: Trained) -> TestSet:
    """The test set of the data that the configuration names. Of a folder that has none set apart it is all images.

    If the network was trained on those very images, it is the sixth that training left out. Classes are known by their
    names; where all of those are others, and as many, by their order, which is told.

    Raises:
        ConfigError: the network cannot have learnt these classes, or may have seen the images, or there are too few.
        DataError: the data are not to be had.
    """
    config, ours = _config(trained), trained.dataset
    facts = sources.facts(config)
    if facts.in_channels != ours.in_channels:
        raise ConfigError(
            f"data={facts.name} has images of {facts.in_channels} channels; the network takes {ours.in_channels}."
        )
    places, notes = _places(facts, ours)
    dataset, arrays = sources.load(config)
    title = f"the test set of {dataset.title}"
    if dataset.split_here and dataset.sha256 != ours.sha256:
        _require_unseen(trained.directory, ours, dataset)
        dataset, arrays = _all_of(dataset, arrays)
        title = f"all images of {dataset.title}"
    check_sizes(config, dataset)
    arrays = arrays._replace(test_labels=places[arrays.test_labels])
    examples = ResidentData.from_arrays(config, arrays, trained.config.seed, trained.engine.device.kind).test
    return TestSet(dataset, title, examples, (*dataset.notes, *notes))


def _config(trained: Trained) -> DataConfig:
    """The data as the network was shown them; none are held out of the training set, which is of no concern here."""
    data, ours = trained.config.data, trained.dataset
    data = replace(data, validation=0, train_examples=None, folds=None, fold=None)
    if data.name != FOLDER:
        return data
    size = ours.image_size
    if ours.path and not {"data", "data.path"}.intersection(trained.overridden):
        data = replace(data, path=ours.path)  # the recorded one may be relative to another folder than today's
    return replace(data, image_size=size, resize=min(data.resize, size), channels=ours.in_channels)


def _require_unseen(directory: Path, ours: Dataset, dataset: Dataset) -> None:
    """The images must not lie where those do that the network was trained on: some of them may be the same.

    Raises:
        ConfigError: they do.
    """
    own, given = Path(ours.path), Path(dataset.path)
    apart = find_test_folder(own)
    overlap = given.is_relative_to(own) or own.is_relative_to(given)
    if ours.path and overlap and not (apart and given.is_relative_to(apart)):
        raise ConfigError(
            f"{directory} was trained on images in {own}, which {given} has too, and they have changed or are others "
            "today: which of them it has not seen cannot be told. Name a folder of other images with data.path=DIR, or "
            "put these into train/ and test/."
        )


def _all_of(dataset: Dataset, arrays: Arrays) -> tuple[Dataset, Arrays]:
    """All examples of a data set as those to test on."""
    images = np.concatenate([arrays.train_images, arrays.test_images])
    labels = np.concatenate([arrays.train_labels, arrays.test_labels])
    return replace(dataset, test_examples=len(labels), notes=()), arrays._replace(
        test_images=images, test_labels=labels
    )


def _places(dataset: Dataset, ours: Dataset) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[str]]:
    """For each class of the data set which of the network's it is, and what is to be told of that."""
    names = list(ours.classes)
    unknown = [name for name in dataset.classes if name not in names]
    if not unknown:
        return np.array([names.index(name) for name in dataset.classes]), []
    if len(unknown) < len(dataset.classes) or len(dataset.classes) != len(names):
        raise ConfigError(
            f"data={dataset.name} has classes that the network was not taught: {', '.join(unknown)}. It knows "
            f"{', '.join(names)}."
        )
    pairs = ", ".join(f"{theirs} as {name}" for theirs, name in zip(dataset.classes, names, strict=True))
    return np.arange(len(names)), [f"The network was taught other classes; they are compared in their order: {pairs}."]
