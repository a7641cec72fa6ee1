"""What a trained network is measured on: the test set of its own data, or of others."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
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

    `title` says what they are, such as "the test set of MNIST"; `notes` are for people. With
    `matched_by_order` the classes have other names than those that the network was taught.
    """

    __test__ = False  # pytest collects what is called Test...

    dataset: Dataset
    title: str
    examples: Examples
    notes: tuple[str, ...]
    matched_by_order: bool


def load_test_set(trained: Trained, match_by_order: bool = False) -> TestSet:
    """The test set of the data that the configuration names. Of a folder that has none set apart it is all images.

    If the network was trained on those very images, it is the sixth that training left out. Classes are known by their
    names, or by their order if these are others and `match_by_order` allows it.

    Raises:
        ConfigError: the network was taught other classes, or may have seen the images, or there
            are too few.
        DataError: the data are not to be had.
    """
    config, ours = _config(trained), trained.dataset
    facts = sources.facts(config)
    if facts.in_channels != ours.in_channels:
        raise ConfigError(
            f"data={facts.name} has images of {facts.in_channels} channels; the network takes {ours.in_channels}."
        )
    places, by_order, notes = _match_classes(facts, ours, match_by_order)
    dataset, arrays = sources.load(config)
    title = f"the test set of {dataset.title}"
    if dataset.split_here and dataset.sha256 != ours.sha256:
        _require_unseen(trained.directory, ours, dataset)
        dataset, arrays = _all_of(dataset, arrays)
        title = f"all images of {dataset.title}"
    if by_order:
        title += ", classes matched by order"
    check_sizes(config, dataset)
    arrays = arrays._replace(test_labels=places[arrays.test_labels])
    examples = ResidentData.from_arrays(config, arrays, trained.config.seed, trained.engine.device.kind).test
    return TestSet(dataset, title, examples, (*dataset.notes, *notes), by_order)


def _config(trained: Trained) -> DataConfig:
    """The data as the network was shown them; none are held out of the training set, which is of no concern here."""
    data, ours = trained.config.data, trained.dataset
    data = msgspec.structs.replace(data, validation=0, train_examples=None, folds=None, fold=None)
    if data.name != FOLDER:
        return data
    size = ours.image_size
    if ours.path and not {"data", "data.path"}.intersection(trained.overridden):
        # the recorded one may be relative to another folder than today's
        data = msgspec.structs.replace(data, path=ours.path)
    resize, channels = min(data.resize, size), ours.in_channels
    return msgspec.structs.replace(data, image_size=size, resize=resize, channels=channels)


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


def _match_classes(
    dataset: Dataset, ours: Dataset, match_by_order: bool
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], bool, list[str]]:
    """Return the network's class for each of `dataset`, whether by order, and notes for people.

    Raises:
        ConfigError: the network was taught other classes, and they are not to be matched by order.
    """
    names = list(ours.classes)
    unknown = [name for name in dataset.classes if name not in names]
    if not unknown:
        no_effect = "--match-by-order has no effect: the network knows all these classes by name."
        places = np.array([names.index(name) for name in dataset.classes])
        return places, False, [no_effect] if match_by_order else []
    pairs = list(zip(dataset.classes, names, strict=False))
    in_words = ", ".join(f"{theirs} as {name}" for theirs, name in pairs)
    fits = len(dataset.classes) == len(names) and all(a == b or a not in names for a, b in pairs)
    if fits and match_by_order:
        note = f"The network was taught other classes; they are compared in their order: {in_words}"
        return np.arange(len(names)), True, [f"{note}."]
    advice = f" To compare them in their order ({in_words}): --match-by-order." if fits else ""
    if match_by_order:
        advice = (
            " --match-by-order does not help: it needs the same number of classes, and names that "
            "both have at the same places."
        )
    raise ConfigError(
        f"data={dataset.name} has classes that the network was not taught: {', '.join(unknown)}. "
        f"It knows {', '.join(names)}.{advice}"
    )
