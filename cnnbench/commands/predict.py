"""`cnnbench predict`: classify images with a trained network."""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from cnnbench.analysis.format import format_count, printable
from cnnbench.data.catalog import Dataset
from cnnbench.data.images import Pixels, looks_inverted, read_inputs
from cnnbench.errors import ConfigError, DataError
from cnnbench.reports.predictions import Prediction, as_csv, as_json, as_table
from cnnbench.training.load_model import TrainedModel, load_trained_model

__all__ = ["classify_files", "run"]

BATCH = 64  # images at a time, to bound the memory


def run(options: argparse.Namespace, conf: Path) -> None:
    """Print the most probable classes of each image on stdout, and errors on stderr.

    Raises:
        CnnbenchError: as for `load_trained_model`.
        DataError: some images could not be classified. All others were.
    """
    paths = [Path(word) for word in options.words if not _is_override(word)]
    if not paths:
        needed = "an image, a folder of images or an IDX file"
        raise ConfigError(f"Name {needed}: cnnbench predict RUN IMAGE ...")
    if options.json and options.csv:
        raise ConfigError("--json and --csv are two forms: choose one.")
    overrides = [word for word in options.words if _is_override(word)]
    # Predictions read no data set, so an untrusted run needs no consent for its data folder.
    overrides.append("data.root=null")
    run, trust = options.directory, options.allow_custom_model
    trained = load_trained_model(run, overrides, conf, "predict", trust, options.rest)
    dataset = trained.dataset
    topk = min(options.topk, len(dataset.classes))
    tally = Tally()
    predictions = tally.count(classify_files(trained, paths, topk, options.invert))
    if options.json:
        lines = as_json(predictions)
    elif options.csv:
        lines = as_csv(predictions, topk)
    else:
        network = f"{trained.config.model.name} ({trained.weights})"
        print(printable(f"{network}, trained on {dataset.title}\n"))
        lines = as_table(predictions, dataset.classes)
    for line in lines:
        print(line)
    tally.conclude(dataset, options.invert)


def _is_override(word: str) -> bool:
    return re.match(r"[a-z_]+(\.\w+)*=", word) is not None and not Path(word).exists()


def classify_files(
    trained: TrainedModel, paths: Sequence[Path], topk: int, invert: bool = False
) -> Iterator[Prediction]:
    """Yield the `topk` most probable classes of each image, or its error.

    `paths` are files and folders as for `read_inputs`. `invert` makes dark pixels light.
    """
    topk = min(topk, len(trained.dataset.classes))
    waiting = read_inputs(paths, trained.dataset.in_channels, trained.dataset.image_size)
    while block := list(islice(waiting, BATCH)):
        readable = [image.pixels for image in block if image.pixels is not None]
        classified = _classify(trained, readable, topk, invert)
        for image in block:
            if image.pixels is None:
                yield Prediction(image.name, [], error=image.error)
                continue
            classes, is_inverted = next(classified)
            error = "" if classes else f"{image.name}: the network's output for it is not finite."
            yield Prediction(image.name, classes, is_inverted, error)


def _classify(
    trained: TrainedModel, pixels: list[Pixels], topk: int, invert: bool
) -> Iterator[tuple[list[tuple[str, float]], bool]]:
    """Yield the classes of each image, none if logits are not finite, and if it looks inverted."""
    images = 255 - np.stack(pixels) if invert else np.stack(pixels)
    device = trained.engine.device.torch_device
    logits = trained.engine.classify(torch.tensor(images, device=device))
    best, indices = logits.cpu().double().softmax(dim=1).topk(topk)
    inverted = looks_inverted(images, trained.dataset.mean).tolist()
    for row, labels, is_inverted in zip(best, indices.tolist(), inverted, strict=True):
        names = [trained.dataset.classes[label] for label in labels]
        is_finite = bool(row.isfinite().all())
        classes = list(zip(names, row.tolist(), strict=True)) if is_finite else []
        yield classes, is_finite and is_inverted


class Tally:
    """A counter that reports problems of images on stderr: errors at once, the rest at the end."""

    def __init__(self) -> None:
        self.total = self.failed = self.inverted = 0
        self.examples: list[str] = []

    def count(self, predictions: Iterator[Prediction]) -> Iterator[Prediction]:
        for prediction in predictions:
            self.total += 1
            if prediction.error:
                self.failed += 1
                print(f"cnnbench: {printable(prediction.error)}", file=sys.stderr)
            if prediction.looks_inverted:
                self.inverted += 1
                self.examples = [*self.examples, prediction.image][:3]
            yield prediction

    def conclude(self, trained_on: Dataset, invert: bool) -> None:
        """Warn of images that look inverted.

        Raises:
            DataError: some images were not classified.
        """
        if self.inverted:
            theirs, ours = ("light", "dark") if trained_on.mean[0] < 1 / 2 else ("dark", "light")
            more = ["..."] if self.inverted > len(self.examples) else []
            named = printable(", ".join(self.examples + more))
            advice = "Leave out --invert" if invert else "--invert inverts all images first"
            print(
                f"cnnbench: {self.inverted:,} of {self.total:,} images look inverted ({named}): "
                f"their background is {theirs}, that of the training images {ours}. {advice}.",
                file=sys.stderr,
            )
        if self.failed:
            failed = f"{self.failed:,} of {format_count(self.total, 'image')}"
            raise DataError(f"{failed} could not be classified.")
