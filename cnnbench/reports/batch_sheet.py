"""Draw training images as the network sees them: resized, normalized, augmented and labeled."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cnnbench.analysis.format import format_count, truncate
from cnnbench.config import Config
from cnnbench.data.arrays import Arrays
from cnnbench.data.augment import Augment
from cnnbench.data.catalog import Dataset
from cnnbench.data.device_data import Examples, epoch_order
from cnnbench.data.preprocess import Preprocess
from cnnbench.data.splits import check_sizes, make_split
from cnnbench.reports.figures import draw_figure
from cnnbench.reports.inspection.pictures import WIDTH, show_row, to_picture
from cnnbench.training.build import prepare_images

__all__ = ["TrainingBatch", "draw_training_batch", "make_training_batch"]

COLUMNS, MAX_PICTURES = 8, 64
MAX_NAME, MAX_MIXED_NAME = 20, 13  # terminal columns of a class name above a picture


@dataclass(frozen=True)
class TrainingBatch:
    """Training examples on the CPU, and the operations that make the network's inputs of them.

    `seed` determines the random numbers of `augment`.
    """

    examples: Examples
    classes: Sequence[str]
    preprocess: Preprocess
    augment: Augment
    seed: int

    @property
    def augmentations(self) -> list[str]:
        """The augmentations that are on, such as "hflip" and "cutout=8"."""
        config, found = self.augment.config, []
        for key in config.__struct_fields__:
            value = getattr(config, key)
            if value and key != "name":
                found.append(key if value is True else f"{key}={value}")
        return found

    def describe(self) -> str:
        """Return a line with the size, the normalization and the augmentations."""
        size, means, stds = self.preprocess.size, self.preprocess.mean, self.preprocess.std
        parts = [f"{size} × {size} pixels", "not normalized"]
        if set(stds) != {1.0}:
            mean, std = (", ".join(f"{value:.2g}" for value in values) for values in (means, stds))
            parts[1] = f"normalized by mean {mean} and std {std}"
        return "; ".join([*parts, ", ".join(self.augmentations) or "not augmented"])


def make_training_batch(config: Config, dataset: Dataset, arrays: Arrays) -> TrainingBatch:
    """Return the first training examples of epoch 1: at most a batch, and at most a sheet of them.

    Raises:
        ConfigError: the data set has fewer examples than the configuration asks for.
    """
    check_sizes(config.data, dataset)
    labels, num_validation = arrays.train_labels, arrays.num_validation
    split = make_split(config.data, labels, arrays.test_labels, config.seed, num_validation)
    cpu = torch.device("cpu")
    preprocess, augment = prepare_images(config, dataset, cpu, torch.float32)
    order = epoch_order(len(split.train), config.seed, epoch=1).numpy()
    chosen = split.train[order[: min(config.train.batch_size, MAX_PICTURES)]]
    examples = Examples.from_arrays(arrays.train_images, labels, chosen, cpu)
    return TrainingBatch(examples, dataset.classes, preprocess, augment, config.seed)


def draw_training_batch(path: Path, title: str, batch: TrainingBatch) -> str:
    """Draw a batch into the SVG or PNG `path`, with pairs if it is augmented; return a caption.

    The pictures are the network's inputs with mean and std put back. Where an augmentation is on,
    each row without it has one with it below.

    Raises:
        OSError: the file cannot be written.
    """
    max_images = MAX_PICTURES // 2 if batch.augmentations else MAX_PICTURES
    images, labels = batch.examples.images[:max_images], batch.examples.labels[:max_images]
    inputs, number = batch.preprocess(images), len(images)
    rows = [("", inputs, _name_targets(labels, batch.classes))]
    if batch.augmentations:
        with torch.random.fork_rng([]):
            torch.manual_seed(batch.seed)
            augmented, targets = batch.augment(inputs, labels)
        names = [] if targets is labels else _name_targets(targets, batch.classes)
        rows = [("not augmented", *rows[0][1:]), ("augmented", augmented, names)]
    starts = range(0, number, COLUMNS)
    heading = f"{title}: training images as the network sees them"
    with draw_figure(path, heading, (WIDTH, WIDTH), batch.describe()) as figure:
        figure.set_figheight(0.8 + len(starts) * len(rows) * (WIDTH / COLUMNS + 0.3))
        grid = figure.subplots(len(starts) * len(rows), squeeze=False).reshape(-1, len(rows))
        for start, blocks in zip(starts, grid, strict=True):
            part = slice(start, min(start + COLUMNS, number))
            for axes, (word, tensors, names) in zip(blocks, rows, strict=True):
                shown = _denormalize(tensors[part], batch.preprocess)
                show_row(axes, [to_picture(picture) for picture in shown], names[part], COLUMNS)
                axes.set_ylabel(word, size=8)
    count = format_count(number, "training image")
    return f"{count} from the start of epoch 1: {batch.describe()}."


def _denormalize(inputs: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """Return pixels in [0, 1] for inputs (N, C, S, S)."""
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std)
    )
    return (inputs * std + mean).clamp(0, 1)


def _name_targets(targets: torch.Tensor, classes: Sequence[str]) -> list[str]:
    """Return the class of each label (N), or of probabilities (N, K) the two largest, in lines."""
    if targets.ndim == 1:
        return [truncate(classes[label], MAX_NAME) for label in targets.tolist()]
    shares, labels = targets.topk(2)
    names = []
    for (first, second), (label, other) in zip(shares.tolist(), labels.tolist(), strict=True):
        name = truncate(classes[label], MAX_NAME)
        if second >= 0.005:
            mixed = [truncate(classes[index], MAX_MIXED_NAME) for index in (label, other)]
            name = f"{mixed[0]} {first:.2f}\n+ {mixed[1]} {second:.2f}"
        names.append(name)
    return names
