"""Load the examples to evaluate a trained network on: its test set, or other data."""

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
    """Examples on the device of the network, with the class numbers of its training.

    `title` names the examples, such as "the test set of MNIST". `notes` are to be printed. If
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

    If a folder has no test set, all its images are used. But if the network was trained on the same
    images, the sixth that was split off in training is used. Classes are matched by name or, if the
    names differ and `match_by_order` is true, by order.

    Args:
        config: the configuration of the run, with the user's overrides.
        trained_on: the data set that the network was trained on.
        run: the run directory, for messages.
        overrides: the keys that the user changed.
        device: the device to copy the examples to.
        match_by_order: match classes by order if their names differ.

    Raises:
        ConfigError: the classes differ, the network may have seen the images, or there are too few.
        DataError: the data cannot be found or downloaded.
    """
    data = _adapt_data_config(config.data, trained_on, overrides)
    info = datasets.dataset_info(data)
    if info.in_channels != trained_on.in_channels:
        raise ConfigError(
            f"data={info.name} has images of {format_count(info.in_channels, 'channel')}; "
            f"the network takes {trained_on.in_channels}."
        )
    class_numbers, by_order, notes = _match_classes(info, trained_on, match_by_order)
    dataset, arrays = datasets.load_dataset(data)
    title = f"the test set of {dataset.title}"
    if dataset.split_here and dataset.sha256 != trained_on.sha256:
        _check_unseen(run, trained_on, dataset)
        images = np.concatenate([arrays.train_images, arrays.test_images])
        labels = np.concatenate([arrays.train_labels, arrays.test_labels])
        arrays = arrays._replace(test_images=images, test_labels=labels)
        notes_on_files = dataset.notes[:1] if dataset.skipped else ()  # the first is on these
        dataset = replace(dataset, test_examples=len(labels), notes=notes_on_files)
        title = f"all images of {dataset.title}"
    if by_order:
        title += ", classes matched by order"
    check_sizes(data, dataset)
    arrays = arrays._replace(test_labels=class_numbers[arrays.test_labels])
    examples = ResidentData.from_arrays(data, arrays, config.seed, device).test
    return EvalSet(dataset, title, examples, (*dataset.notes, *notes), by_order)


def _adapt_data_config(
    data: DataConfig, trained_on: Dataset, overrides: Collection[str]
) -> DataConfig:
    """Return the data settings with the image format of training and without a validation set."""
    changes: dict[str, Any] = {"validation": 0, "train_examples": None, "folds": None, "fold": None}
    if data.name == FOLDER:
        size = trained_on.image_size
        changes |= {"image_size": size, "resize": min(data.resize, size)}
        changes["channels"] = trained_on.in_channels
        if trained_on.path and not {"data", "data.path"}.intersection(overrides):
            # The configured path may be relative to another working directory.
            changes["path"] = trained_on.path
    return msgspec.structs.replace(data, **changes)


def _check_unseen(run: Path, trained_on: Dataset, dataset: Dataset) -> None:
    """Check by the folders that the network was not trained on images of `dataset`.

    Raises:
        ConfigError: one folder lies in the other.
    """
    train_path, path = Path(trained_on.path), Path(dataset.path)
    test_folder = find_test_folder(train_path)
    is_overlap = path.is_relative_to(train_path) or train_path.is_relative_to(path)
    is_test = test_folder is not None and path.is_relative_to(test_folder)
    if trained_on.path and is_overlap and not is_test:
        raise ConfigError(
            f"{run} was trained on images in {train_path}, which {path} has too, and they have "
            "changed or are others today: which of them it has not seen is unknown. Name a "
            "folder of other images with data.path=DIR, or put these into train/ and test/."
        )


def _match_classes(
    dataset: Dataset, trained_on: Dataset, match_by_order: bool
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], bool, list[str]]:
    """Return the network's class number for each class, whether matched by order, and notes.

    Raises:
        ConfigError: the network was trained on other classes that are not to be matched by order.
    """
    names = list(trained_on.classes)
    unknown = [name for name in dataset.classes if name not in names]
    if not unknown:
        no_effect = "--match-by-order has no effect: the network knows all these classes by name."
        numbers = np.array([names.index(name) for name in dataset.classes])
        return numbers, False, [no_effect] if match_by_order else []
    pairs = list(zip(dataset.classes, names, strict=False))
    listed = ", ".join(f"{class_name} as {name}" for class_name, name in pairs)
    has_misplaced = any(class_name in names and class_name != name for class_name, name in pairs)
    fits = len(dataset.classes) == len(names) and not has_misplaced
    if fits and match_by_order:
        note = f"The network was taught other classes; they are compared in their order: {listed}"
        return np.arange(len(names)), True, [f"{note}."]
    advice = ""
    if fits:
        advice = f" To compare them in their order ({listed}) add: --match-by-order"
    elif match_by_order:
        advice = (
            " --match-by-order does not help: it needs the same number of classes, and names that "
            "both have at the same places."
        )
    raise ConfigError(
        f"data={dataset.name} has classes that the network was not taught: {', '.join(unknown)}. "
        f"It knows {', '.join(names)}.{advice}"
    )
