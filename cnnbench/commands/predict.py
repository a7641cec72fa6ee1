"""`cnnbench predict`: what a trained network takes images to be."""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from cnnbench.analysis.format import printable
from cnnbench.data.inputs import Given, looks_inverted, read_all
from cnnbench.errors import DataError
from cnnbench.reports.predictions import Prediction, as_csv, as_json, as_table
from cnnbench.training.load_model import TrainedModel, load_trained_model

__all__ = ["run"]

BATCH = 64  # images at a time: memory stays bounded however many there are


def run(arguments: list[str], conf: Path) -> None:
    """Print the most probable classes of each image on stdout; on stderr, what is wrong with any.

    Raises:
        ConfigError: the directory holds no training run.
        CheckpointError: its checkpoint is missing, damaged or refused.
        DataError: some images could not be classified; all others were.
    """
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    overrides = [word for word in options.images if re.match(r"[a-z_]+(\.\w+)*=", word) and not Path(word).exists()]
    paths = [Path(word) for word in options.images if word not in overrides]
    if not paths:
        parser.error("give at least one image, folder or IDX file")
    # the data are not read, so it does not matter whose folder they are in
    words = [*overrides, "data.root=null"]
    trained = load_trained_model(options.directory, words, conf, "predict", options.allow_custom_model)
    top = min(options.topk, len(trained.dataset.classes))
    tally = Tally(trained, options.invert)
    predictions = tally.counting(_predict(trained, paths, top, options.invert))
    if options.json:
        lines = as_json(predictions)
    elif options.csv:
        lines = as_csv(predictions, top)
    else:
        print(printable(f"{trained.config.model.name} ({trained.weights}), trained on {trained.dataset.title}\n"))
        lines = as_table(predictions, trained.dataset.classes)
    for line in lines:
        print(line)
    tally.conclude()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnbench predict",
        description="Classify images with the network of a run. They may have any size and colours, and are brought "
        "to the size and channels of the training images and then treated as those. What cannot be read is told and "
        "left out; the exit code is then 3.",
        epilog="Example: cnnbench predict outputs/lenet-fashion_mnist-28px/2026-11-24_10-00-00 shirt.png photos/",
    )
    parser.add_argument("directory", type=Path, metavar="RUN_DIR", help="a run directory, such as those under outputs/")
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image file, a folder of them, with all folders in it, or an IDX file of images, "
        "plain or gzipped; also the device, as in device=cpu",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one array of objects instead of a table")
    form.add_argument("--csv", action="store_true", help="comma-separated values instead of a table")
    parser.add_argument(
        "--topk", type=_at_least_one, default=3, metavar="K", help="how many classes of each (default: 3)"
    )
    parser.add_argument("--invert", action="store_true", help="invert all images first: dark becomes light")
    parser.add_argument("--allow-custom-model", action="store_true", help="let it run a network that is not cnnbench's")
    return parser


def _at_least_one(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"'{word}' is no whole number from 1 on")
    return int(word)


def _predict(trained: TrainedModel, paths: Sequence[Path], top: int, invert: bool) -> Iterator[Prediction]:
    dataset = trained.dataset
    waiting = read_all(paths, dataset.in_channels, dataset.image_size)
    while block := list(islice(waiting, BATCH)):
        yield from _classify(trained, block, top, invert)


def _classify(trained: TrainedModel, block: Sequence[Given], top: int, invert: bool) -> Iterator[Prediction]:
    """What the network makes of a batch of images, some of which may not have been readable."""
    pixels = [each.pixels for each in block if each.pixels is not None]
    if not pixels:
        yield from (Prediction(each.name, [], error=each.error) for each in block)
        return
    images = 255 - np.stack(pixels) if invert else np.stack(pixels)
    logits = trained.engine.classify(torch.from_numpy(images).to(trained.engine.device.torch_device))
    best, places = logits.cpu().double().softmax(dim=1).topk(top)
    classified = zip(best.tolist(), places.tolist(), looks_inverted(images, trained.dataset.mean), strict=True)
    for each in block:
        if each.pixels is None:
            yield Prediction(each.name, [], error=each.error)
            continue
        probabilities, indices, inverted = next(classified)
        if not all(0 <= probability <= 1 for probability in probabilities):  # which NaN is not
            yield Prediction(each.name, [], error=f"{each.name}: the network's output for it is not finite.")
            continue
        names = [trained.dataset.classes[index] for index in indices]
        yield Prediction(each.name, list(zip(names, probabilities, strict=True)), bool(inverted))


class Tally:
    """Tells on stderr what is wrong with images: why one was not classified at once, all else in the end."""

    def __init__(self, trained: TrainedModel, invert: bool) -> None:
        self.trained = trained
        self.invert = invert
        self.total = self.failed = self.inverted = 0
        self.examples: list[str] = []

    def counting(self, predictions: Iterator[Prediction]) -> Iterator[Prediction]:
        for each in predictions:
            self.total += 1
            if each.error:
                self.failed += 1
                print(f"cnnbench: {printable(each.error)}", file=sys.stderr)
            if each.looks_inverted:
                self.inverted += 1
                self.examples += [each.image] if len(self.examples) < 3 else []
            yield each

    def conclude(self) -> None:
        """Warn of images that look inverted.

        Raises:
            DataError: some were not classified.
        """
        if self.inverted:
            dark = self.trained.dataset.mean[0] < 1 / 2
            theirs, ours = ("light", "dark") if dark else ("dark", "light")
            named = ", ".join(self.examples) + (", ..." if self.inverted > len(self.examples) else "")
            advice = "Leave out --invert" if self.invert else "--invert inverts all images first"
            print(
                f"cnnbench: {self.inverted:,} of {self.total:,} images look inverted ({printable(named)}): their "
                f"background is {theirs}, that of the training images {ours}. {advice}.",
                file=sys.stderr,
            )
        if self.failed:
            raise DataError(f"{self.failed:,} of {self.total:,} images could not be classified.")
