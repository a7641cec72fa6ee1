"""Seeded, class-balanced splits into training, validation and test set. Must not import torch."""

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
        """Return the size of each part, and a digest that is the same for equal splits."""
        digest = hashlib.sha256()
        for part in vars(self).values():
            digest.update(np.sort(part).astype("<i8").tobytes() + b"/")
        sizes = {name: len(part) for name, part in vars(self).items()}
        return {**sizes, "sha256": digest.hexdigest()}


def check_sizes(config: DataConfig, dataset: Dataset) -> int:
    """Check the configured sizes against the data set, before it is read.

    Returns the number of training examples.

    Raises:
        ConfigError: a size is larger than the data set allows.
        DataError: there are no test examples.
    """
    num_provided = 0 if config.folds else dataset.validation_examples  # in a validation folder
    available = dataset.train_examples - num_provided
    all_examples = format_count(available, "training example")
    name = dataset.title if dataset.name == FOLDER else dataset.name
    if not dataset.test_examples:
        raise DataError(
            f"{dataset.title} has no images to test on: a sixth of each class is none. Add images."
        )
    if config.folds is not None and config.folds > available:
        raise ConfigError(f"data.folds={config.folds}: {name} has {all_examples}.")
    num_validation = 0 if num_provided else count_validation(config, dataset)
    if num_validation >= available:
        raise ConfigError(
            f"data.validation={config.validation} leaves nothing to train on: {name} has "
            f"{all_examples}. It must be at most {available - 1}; 0 trains on all of them."
        )
    left = available - num_validation
    if config.train_examples is not None and config.train_examples > left:
        examples = f"{all_examples}."
        if num_validation:
            examples = (
                f"{left:,} of its {all_examples} left beside the {num_validation:,} validation "
                "examples. Lower it or data.validation."
            )
        raise ConfigError(f"data.train_examples={config.train_examples}: {name} has {examples}")
    if config.test_examples is not None and config.test_examples > dataset.test_examples:
        examples = f"{format_count(dataset.test_examples, 'test example')}."
        raise ConfigError(f"data.test_examples={config.test_examples}: {name} has {examples}")
    return left if config.train_examples is None else config.train_examples


def count_validation(config: DataConfig, dataset: Dataset) -> int:
    """Return the number of validation examples."""
    if config.folds is not None:
        smallest, num_larger = divmod(dataset.train_examples, config.folds)  # as in array_split
        return smallest + int((config.fold or 0) < num_larger)
    if dataset.validation_examples:
        return dataset.validation_examples if config.validation else 0
    return _resolve_share(config.validation, dataset.train_examples)


def _resolve_share(validation: int | float, num_examples: int) -> int:
    """Return data.validation as a number of examples; a share is rounded, but to at least 1."""
    if 0 < validation < 1:
        return max(1, round(validation * num_examples))
    return int(validation)


def make_split(
    config: DataConfig,
    train_labels: Labels,
    test_labels: Labels,
    seed: int,
    num_validation: int = 0,
) -> Split:
    """Return the split for a configuration that passed `check_sizes` and a seed.

    If the data set comes with a validation set, it is the last `num_validation` training examples.
    With data.validation=0 they are not used. data.folds divides them together with the others.
    """
    num_provided = 0 if config.folds else num_validation
    num_train = len(train_labels) - num_provided
    order = _draw_balanced_order(train_labels[:num_train], np.random.default_rng([seed, 0]))
    if config.folds is not None:
        parts = np.array_split(order, config.folds)
        validation = parts.pop(config.fold or 0)
        train = np.concatenate(parts)
    elif num_provided:
        train, validation = order, np.arange(num_train, len(train_labels))
        if not config.validation:
            validation = validation[:0]
    else:
        size = _resolve_share(config.validation, len(train_labels))
        validation, train = order[:size], order[size:]
    test = np.arange(len(test_labels))
    if config.test_examples is not None:
        order = _draw_balanced_order(test_labels, np.random.default_rng([seed, 1]))
        test = order[: config.test_examples]
    return Split(train[: config.train_examples], validation, test)


def _draw_balanced_order(labels: Labels, generator: np.random.Generator) -> Indices:
    """Return a random order in which each stretch holds the classes in their proportions.

    Each class is shuffled. The position of an example within its class, as a fraction, is the key
    by which all examples are sorted.
    """
    positions = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        fractions = (np.arange(len(members)) + generator.random(len(members))) / len(members)
        positions[generator.permutation(members)] = fractions
    return np.argsort(positions, kind="stable")
