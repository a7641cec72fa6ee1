"""`cnnbench evaluate`: what a trained network gets right and wrong on the test set."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cnnbench.commands.assemble import describe
from cnnbench.commands.trained import Trained, open_run
from cnnbench.data import catalog
from cnnbench.data.catalog import Dataset
from cnnbench.data.resident import Examples, ResidentData
from cnnbench.data.splits import check_sizes
from cnnbench.errors import ConfigError
from cnnbench.reports import confusion
from cnnbench.reports.evaluation import Evaluation, evaluate
from cnnbench.reports.text import printable
from cnnbench.runs import environment
from cnnbench.runs.directory import RunDirectory, job_directory_name, write_atomically
from cnnbench.runs.reading import read_json

__all__ = ["run"]


def run(arguments: list[str], conf: Path) -> None:
    """Evaluate the network of a run; print the figures, write evaluation.json and confusion.png.

    Raises:
        ConfigError: the directory holds no training run, or the overrides do not fit its network.
        CheckpointError: its checkpoint is missing, damaged or refused.
        DataError: the test set is not to be had.
        OSError: the run directory cannot be written to.
    """
    parser = argparse.ArgumentParser(
        prog="cnnbench evaluate",
        description="Measure the network of a run on the test set: accuracy with its 95 %% interval, precision, recall "
        "and F1 of each class, confusion matrix, calibration. Writes evaluation.json and confusion.png into the run "
        "directory; with overrides, under names that hold them.",
        epilog="Example: cnnbench evaluate outputs/lenet-fashion_mnist-28px/2026-11-24_10-00-00 device=cpu",
    )
    parser.add_argument("directory", type=Path, help="a run directory, such as those under outputs/")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="other data or device: data=mnist device=cpu")
    parser.add_argument(
        "--topk", type=int, nargs="+", default=[5], metavar="K", help="also count a class among the K most probable"
    )
    parser.add_argument("--allow-custom-model", action="store_true", help="let it run a network that is not cnnbench's")
    options = parser.parse_intermixed_args(arguments)
    if min(options.topk) < 1:
        raise ConfigError(f"--topk {min(options.topk)} is out of range. It must be at least 1.")
    trained = open_run(options.directory, options.overrides, conf, "evaluate", options.allow_custom_model)
    dataset = catalog.get(trained.config.data.name)
    examples, notes = _test_examples(trained, dataset)
    result = _measure(trained, examples, sorted(set(options.topk)))
    heading = f"{trained.config.model.name} ({trained.weights}) on the test set of {dataset.title}"
    how = describe(trained.engine)
    print(printable(f"{heading}: {len(examples):,} examples"))
    print(f"{how['device']} ({how['chip']}), {how['precision']}")
    print(printable("\n".join(["", *notes, result.table(), ""])))
    _record(trained, dataset, result, heading, options.overrides)


def _test_examples(trained: Trained, dataset: Dataset) -> tuple[Examples, list[str]]:
    """The test set, its labels as the network was taught them; and what is to be told of that.

    Raises:
        ConfigError: the network cannot have learnt these classes, or there are not so many examples.
    """
    ours = trained.dataset
    if dataset.in_channels != ours.in_channels:
        raise ConfigError(
            f"data={dataset.name} has images of {dataset.in_channels} channels; the network takes {ours.in_channels}."
        )
    config = replace(trained.config.data, validation=0, train_examples=None, folds=None, fold=None)
    check_sizes(config, dataset)
    examples = ResidentData.load(config, dataset, trained.config.seed, trained.engine.device.kind).test
    if dataset.classes == ours.classes:
        return examples, []
    if set(dataset.classes) <= set(ours.classes):
        places = torch.tensor([ours.classes.index(name) for name in dataset.classes], device=examples.labels.device)
        return Examples(examples.images, places[examples.labels]), []
    if len(dataset.classes) > len(ours.classes):
        raise ConfigError(
            f"data={dataset.name} has {len(dataset.classes)} classes; the network was taught {len(ours.classes)}: "
            f"{', '.join(ours.classes)}."
        )
    return examples, [
        f"The network was taught other classes ({', '.join(ours.classes)}). They are compared in their order.\n"
    ]


def _measure(trained: Trained, examples: Examples, topk: Sequence[int]) -> Evaluation:
    """In batches of the size that training measured in, so that the figures are the same."""
    engine, logits, losses = trained.engine, [], []
    for images, labels in examples.batches_in_order(trained.config.train.batch_size):
        logits.append(engine.classify(images))
        losses.append(float(engine.loss(logits[-1], labels)) * len(labels))
    loss = sum(losses) / len(examples)
    return evaluate(torch.cat(logits), examples.labels, loss, trained.dataset.classes, topk)


def _record(trained: Trained, dataset: Dataset, result: Evaluation, heading: str, overrides: Sequence[str]) -> None:
    """Write the files, say where they are, and what the run itself had measured if that was something else."""
    run = RunDirectory(trained.directory)
    of_another = f"_{job_directory_name(','.join(overrides))}" if overrides else ""
    record = {
        "model": trained.config.model.name,
        "weights": trained.weights,
        "data": dataset.as_record(),
        "overrides": list(overrides),
        **result.as_dict(),
        "environment": {**environment.describe(), **describe(trained.engine)},
    }
    run.write_json(f"evaluation{of_another}.json", record)
    picture = run.path / f"confusion{of_another}.png"
    classes = [each.name for each in result.classes]
    title = f"{heading}\naccuracy {result.accuracy:.4f}"
    write_atomically(picture, lambda file: confusion.draw(result.confusion, classes, title, file))
    recorded = _recorded_accuracy(run.path)
    if not overrides and recorded is not None and recorded != result.accuracy:
        print(f"The run itself measured {recorded:.4f}, with another device, precision or version.")
    print(f"{os.path.relpath(run.path / f'evaluation{of_another}.json')}\n{os.path.relpath(picture)}")


def _recorded_accuracy(directory: Path) -> float | None:
    try:
        return float(read_json(directory / "result.json")["test_accuracy"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
