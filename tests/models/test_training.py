"""All networks train with the command line, on 28 pixels or their smallest size."""

import csv
import json
from pathlib import Path

import pytest
from helpers.command import Command, find_only_run

from cnnbench import models

SLOW = {
    *("alexnet", "googlenet", "resnet18", "resnet34", "resnet50", "densenet121", "d2l_resnet18"),
    *("resnet101", "resnet110", "resnet152", "preact_resnet110", "preact_resnet164", "d2l_resnext"),
    *("resnet9", "wide_resnet16_8", "wide_resnet28_10", "wide_resnet40_4"),
    *("densenet169", "densenet201", "densenet264", "densenet40", "densenet_bc100"),
    *("vgg11", "vgg13", "vgg16", "vgg19"),
}
FEW = (
    "data.train_examples=64",
    "train.batch_size=32",
    "data.validation=30",
    "data.test_examples=30",
)
# An epoch of 512 images and its evaluation takes more than a minute on two cores.
GIANTS = {"densenet100", "densenet_bc190", "densenet_bc250", "preact_resnet1001"}


def train(within: Command, folder: Path, name: str, *arguments: str) -> list[dict[str, str]]:
    """Train for one epoch of the sample dataset and return the rows of metrics.csv."""
    size = max(28, models.REGISTRY[name].min_image_size)
    settings = ("data=sample", "train.epochs=1", f"data.resize={size}")
    finished = within(f"model={name}", *settings, *arguments)
    assert finished.returncode == 0, finished.stderr
    run = find_only_run(folder)
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in models.names()
        if name not in GIANTS
    ],
)
def test_trains_for_an_epoch(name: str, within: Command, tmp_path: Path) -> None:
    examples = ("data.train_examples=512",) if name in SLOW else FEW
    (epoch,) = train(within, tmp_path, name, *examples)
    assert epoch["epoch"] == "1"
    assert 0 < float(epoch["train_loss"]) < 100
    assert 0 <= float(epoch["validation_accuracy"]) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GIANTS))
def test_giant_trains_on_twenty_batches_of_two(name: str, within: Command, tmp_path: Path) -> None:
    # Twenty batches: after two, the running statistics of 1001 layers are far from those of the
    # data, and the evaluation overflows.
    few = (
        "train.batch_size=2",
        "data.train_examples=40",
        "data.validation=0",
        "data.test_examples=10",
    )
    (epoch,) = train(within, tmp_path, name, *few)
    assert 0 < float(epoch["train_loss"]) < 100
