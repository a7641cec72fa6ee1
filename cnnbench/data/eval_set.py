"""Load the examples that a trained network is evaluated on: its own test set, or other data."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from cnnbench.config import FOLDER, Config, DataConfig
from cnnbench.data import datasets
from cnnbench.data.catalog import Dataset
from cnnbench.data.device_data import Examples, ResidentData
from cnnbench.data.scan_folder import find_test_folder
from cnnbench.data.splits import check_sizes
from cnnbench.errors import ConfigError, format_count

__all__ = ["EvalSet", "load_eval_set"]


@dataclass(frozen=True)
class EvalSet:
    """Examples on the network's device, with the labels that it was trained with.

    `title` says what they are, such as "the test set of MNIST". `notes` are to be printed. If
    `matched_by_order`, the names of the classes differ from those in training.
    """

    dataset: Dataset
    title: str
    examples: Examples
    notes: tuple[str, ...]
    matched_by_order: bool


def load_eval_set(
    config: Config,
    trained_on: Dataset,
    run: Path,
    overrides: Collection[str],
    device: torch.device,
    match_by_order: bool = False,
) -> EvalSet:
    """Load the test set of `config.data` for a network that `run` trained on `trained_on`.

    A folder without a test set is evaluated whole, unless the network was trained on these very
    images: then on the sixth that training left out. Classes are matched by name or, if the names
    differ and `match_by_order` allows it, by order. `overrides` are the keys that the user changed.

    Raises:
        ConfigError: the classes differ, the network may have seen the images, or there are too few.
        DataError: the data cannot be found or fetched.
    """
    data = _adapt_data_config(config.data, trained_on, overrides)
    facts = datasets.dataset_info(data)
    if facts.in_channels != trained_on.in_channels:
        raise ConfigError(
            f"data={facts.name} has images of {format_count(facts.in_channels, 'channel')}; "
            f"the network takes {trained_on.in_channels}."
        )
    places, by_order, notes = _match_classes(facts, trained_on, match_by_order)
    dataset, arrays = datasets.load(data)
    title = f"the test set of {dataset.title}"
    if dataset.split_here and dataset.sha256 != trained_on.sha256:
        _require_unseen(run, trained_on, dataset)
        images = np.concatenate([arrays.train_images, arrays.test_images])
        labels = np.concatenate([arrays.train_labels, arrays.test_labels])
        arrays = arrays._replace(test_images=images, test_labels=labels)
        dataset = replace(dataset, test_examples=len(labels), notes=())
        title = f"all images of {dataset.title}"
    if by_order:
        title += ", classes matched by order"
    check_sizes(data, dataset)
    arrays = arrays._replace(test_labels=places[arrays.test_labels])
    examples = ResidentData.from_arrays(data, arrays, config.seed, device).test
    return EvalSet(dataset, title, examples, (*dataset.notes, *notes), by_order)


def _adapt_data_config(
    data: DataConfig, trained: Dataset, overrides: Collection[str]
) -> DataConfig:
    """Return the settings under which images look as in training; none are held out."""
    changes: dict[str, Any] = {"validation": 0, "train_examples": None, "folds": None, "fold": None}
    if data.name == FOLDER:
        size = trained.image_size
        changes |= {"image_size": size, "resize": min(data.resize, size)}
        changes["channels"] = trained.in_channels
        if trained.path and not {"data", "data.path"}.intersection(overrides):
            changes["path"] = trained.path  # the configured one may be relative to another folder
    return msgspec.structs.replace(data, **changes)


def _require_unseen(run: Path, trained_on: Dataset, dataset: Dataset) -> None:
    """Check that no image can be one that the network was trained on, by where the images lie.

    Raises:
        ConfigError: one folder lies in the other.
    """
    own, given = Path(trained_on.path), Path(dataset.path)
    apart = find_test_folder(own)
    overlap = given.is_relative_to(own) or own.is_relative_to(given)
    if trained_on.path and overlap and not (apart and given.is_relative_to(apart)):
        raise ConfigError(
            f"{run} was trained on images in {own}, which {given} has too, and they have changed "
            "or are others today: which of them it has not seen cannot be told. Name a folder of "
            "other images with data.path=DIR, or put these into train/ and test/."
        )


def _match_classes(
    dataset: Dataset, trained_on: Dataset, match_by_order: bool
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], bool, list[str]]:
    """Return the network's class for each of `dataset`, whether by order, and notes for people.

    Raises:
        ConfigError: the network was taught other classes, and they are not to be matched by order.
    """
    names = list(trained_on.classes)
    unknown = [name for name in dataset.classes if name not in names]
    if not unknown:
        no_effect = "--match-by-order has no effect: the network knows all these classes by name."
        places = np.array([names.index(name) for name in dataset.classes])
        return places, False, [no_effect] if match_by_order else []
    pairs = list(zip(dataset.classes, names, strict=False))
    listed = ", ".join(f"{theirs} as {name}" for theirs, name in pairs)
    fits = len(dataset.classes) == len(names) and all(a == b or a not in names for a, b in pairs)
    if fits and match_by_order:
        note = f"The network was taught other classes; they are compared in their order: {listed}"
        return np.arange(len(names)), True, [f"{note}."]
    advice = f" To compare them in their order ({listed}) add: --match-by-order" if fits else ""
    if match_by_order:
        advice = (
            " --match-by-order does not help: it needs the same number of classes, and names that "
            "both have at the same places."
        )
    raise ConfigError(
        f"data={dataset.name} has classes that the network was not taught: {', '.join(unknown)}. "
        f"It knows {', '.join(names)}.{advice}"
    )
