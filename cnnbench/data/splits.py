"""Which examples train, which are held out. Seeded, class-balanced, and free of torch."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnnbench.config import FOLDER, DataConfig
from cnnbench.data.arrays import Labels
from cnnbench.data.catalog import Dataset
from cnnbench.errors import ConfigError, DataError, format_count

__all__ = ["Split", "check_sizes", "count_validation", "make_split"]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Indices into the training files (`train`, `validation`) and the test files (`test`)."""

    train: Indices
    validation: Indices
    test: Indices

    def summary(self) -> dict[str, object]:
        """Return how many examples each part has, and a digest that equal splits share."""
        digest = hashlib.sha256()
        for part in vars(self).values():
            digest.update(np.sort(part).astype("<i8").tobytes() + b"/")
        sizes = {name: len(part) for name, part in vars(self).items()}
        return {**sizes, "sha256": digest.hexdigest()}


def check_sizes(config: DataConfig, dataset: Dataset) -> int:
    """Check the numbers of examples asked for against the data set, before any of it is read.

    Returns how many there are to train on.

    Raises:
        ConfigError: more is asked for than there is.
        DataError: there is nothing to test on.
    """
    given = 0 if config.folds else dataset.validation_examples  # in files of their own
    available = dataset.train_examples - given
    all_examples = format_count(available, "training example")
    name = dataset.title if dataset.name == FOLDER else dataset.name
    if not dataset.test_examples:
        raise DataError(
            f"{dataset.title} has no images to test on: a sixth of each class is none. Add images."
        )
    if config.folds is not None and config.folds > available:
        raise ConfigError(f"data.folds={config.folds}: {name} has {all_examples}.")
    held_out = 0 if given else count_validation(config, dataset)
    if held_out >= available:
        raise ConfigError(
            f"data.validation={config.validation} leaves nothing to train on: {name} has "
            f"{all_examples}. It must be at most {available - 1}; 0 trains on all of them."
        )
    left = available - held_out
    if config.train_examples is not None and config.train_examples > left:
        examples = f"{all_examples}."
        if held_out:
            beside = f"left beside the {held_out:,} held out. Lower it or data.validation."
            examples = f"{left:,} of its {all_examples} {beside}"
        raise ConfigError(f"data.train_examples={config.train_examples}: {name} has {examples}")
    if config.test_examples is not None and config.test_examples > dataset.test_examples:
        examples = f"{format_count(dataset.test_examples, 'test example')}."
        raise ConfigError(f"data.test_examples={config.test_examples}: {name} has {examples}")
    return left if config.train_examples is None else config.train_examples


def count_validation(config: DataConfig, dataset: Dataset) -> int:
    """Return how many of the training examples are held out for validation."""
    if config.folds is None and dataset.validation_examples:
        return dataset.validation_examples if config.validation else 0
    if config.folds is None:
        return _num_validation(config, dataset.train_examples)
    smallest, larger = divmod(dataset.train_examples, config.folds)  # as numpy.array_split cuts
    return smallest + int((config.fold or 0) < larger)


def _num_validation(config: DataConfig, num_examples: int) -> int:
    """Return data.validation as a number: of a share the nearest one, but at least 1."""
    asked: int | float = config.validation
    return max(1, round(asked * num_examples)) if 0 < asked < 1 else int(asked)


def make_split(
    config: DataConfig,
    train_labels: Labels,
    test_labels: Labels,
    seed: int,
    num_validation: int = 0,
) -> Split:
    """Return the split for a configuration and a seed; the sizes have passed `check_sizes`.

    The last `num_validation` of the training examples are the validation set, not used with
    data.validation=0; data.folds divides them with all others.
    """
    given = 0 if config.folds else num_validation
    num_train = len(train_labels) - given
    order = _balanced_order(train_labels[:num_train], np.random.default_rng([seed, 0]))
    if config.folds is not None:
        parts = np.array_split(order, config.folds)
        validation = parts.pop(config.fold or 0)
        train = np.concatenate(parts)
    elif given:
        train, validation = order, np.arange(num_train, len(train_labels))
        validation = validation if config.validation else validation[:0]
    else:
        held_out = _num_validation(config, len(train_labels))
        validation, train = order[:held_out], order[held_out:]
    test = np.arange(len(test_labels))
    if config.test_examples is not None:
        order = _balanced_order(test_labels, np.random.default_rng([seed, 1]))
        test = order[: config.test_examples]
    return Split(train[: config.train_examples], validation, test)


def _balanced_order(labels: Labels, generator: np.random.Generator) -> Indices:
    """Return a random order, any stretch of which holds the classes in their proportions.

    Each example's place within its own shuffled class, as a fraction, is its place in the whole.
    """
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        places = (np.arange(len(members)) + generator.random(len(members))) / len(members)
        place[generator.permutation(members)] = places
    return np.argsort(place, kind="stable")
