"""`cnnbench evaluate`: measure a trained network on the test set."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from cnnbench.analysis.format import align, format_count, printable
from cnnbench.analysis.metrics import BINS, Evaluation, compute_metrics
from cnnbench.data.device_data import Examples
from cnnbench.data.eval_set import EvalSet, load_eval_set
from cnnbench.errors import ConfigError
from cnnbench.reports.confusion import draw_confusion
from cnnbench.runs import environment
from cnnbench.runs.directory import RunDirectory, job_directory_name
from cnnbench.runs.reading import find_figure, read_json_or_empty
from cnnbench.training.build import describe_engine
from cnnbench.training.load_model import TrainedModel, load_trained_model

__all__ = ["evaluate_model", "format_metrics", "run"]

DEFAULT_TOPK = 5


def run(options: argparse.Namespace, conf: Path) -> None:
    """Evaluate the network of a run; print the metrics, write evaluation.json and confusion.png.

    Raises:
        CnnbenchError: as for `load_trained_model` and `load_eval_set`.
        OSError: the run directory cannot be written to.
    """
    topk, overrides = options.topk or [], options.words
    run, trust = options.directory, options.allow_custom_model
    trained = load_trained_model(run, overrides, conf, "evaluate", trust, options.rest)
    config, device = trained.config, trained.engine.device
    num_classes = len(trained.dataset.classes)
    if max(topk, default=0) > num_classes - 1:
        raise ConfigError(
            f"--topk {max(topk)} is out of range. It must be at most {num_classes - 1}: "
            f"with all {num_classes} classes every prediction counts as correct."
        )
    test, result = evaluate_model(trained, options.match_by_order, topk)
    heading = f"{config.model.name} ({trained.weights}) on {test.title}"
    print(printable(f"{heading}: {format_count(len(test.examples), 'example')}"))
    print(f"{device.torch_device.type} ({device.describe()}), {device.precision}")
    print(printable("\n".join([*test.notes, "", format_metrics(result), ""])))
    _record(trained, test, result, heading, overrides)


def evaluate_model(
    trained: TrainedModel, match_by_order: bool = False, topk: Sequence[int] = ()
) -> tuple[EvalSet, Evaluation]:
    """Measure a trained network on its test set; return the test set and the metrics.

    `topk` is DEFAULT_TOPK by default, or all classes but one if there are fewer.

    Raises:
        CnnbenchError: as for `load_eval_set`.
    """
    config, dataset, device = trained.config, trained.dataset, trained.engine.device.torch_device
    directory, overrides = trained.directory, trained.overrides
    test = load_eval_set(config, dataset, directory, overrides, device, match_by_order)
    default = [min(DEFAULT_TOPK, len(dataset.classes) - 1)]
    return test, _measure(trained, test.examples, sorted(set(topk)) or default)


def _measure(trained: TrainedModel, examples: Examples, topk: Sequence[int]) -> Evaluation:
    """Return the metrics, computed in the batches of training so that they agree with its own."""
    engine, logits, losses = trained.engine, [], []
    for images, labels in examples.batches_in_order(trained.config.train.batch_size):
        logits.append(engine.classify(images))
        losses.append(float(engine.loss(logits[-1], labels)) * len(labels))
    loss = sum(losses) / len(examples)
    return compute_metrics(torch.cat(logits), examples.labels, loss, trained.dataset.classes, topk)


def format_metrics(result: Evaluation) -> str:
    """Return the tables to print."""
    low, high = result.accuracy_95_interval
    totals = [
        ("accuracy", f"{result.accuracy:.4f}", f"95 % interval {low:.4f} to {high:.4f}"),
        ("balanced accuracy", f"{result.balanced_accuracy:.4f}", "each class counts alike"),
        *((f"top {k}", f"{share:.4f}", "") for k, share in result.topk_accuracy.items()),
        ("loss", f"{result.loss:.4f}", ""),
        ("calibration error", f"{result.expected_calibration_error:.4f}", f"expected, {BINS} bins"),
    ]
    rows: list[tuple[str, ...]] = [("class", "precision", "recall", "F1", "examples")]
    for metrics in result.classes:
        shares = (metrics.precision, metrics.recall, metrics.f1)
        cells = ("-" if share is None else f"{share:.4f}" for share in shares)
        rows.append((metrics.name, *cells, f"{metrics.support:,}"))
    means = (f"{share:.4f}" for share in result.macro_mean.values())
    rows.append(("mean", *means, f"{result.examples:,}"))
    parts = [align(totals), align(rows, right=range(1, 5))]
    confused = result.most_confused()
    if confused:
        pairs = (f"{true} taken for {predicted} ({count:,})" for true, predicted, count in confused)
        parts.append(f"most confused: {', '.join(pairs)}")
    return "\n\n".join(parts)


def _record(
    trained: TrainedModel, test: EvalSet, result: Evaluation, heading: str, overrides: Sequence[str]
) -> None:
    """Write the files, print their paths, and print the run's own accuracy if it differs."""
    run = RunDirectory(trained.directory)
    end = f"_{job_directory_name(','.join(overrides))}" if overrides else ""
    record = {
        "model": trained.config.model.name,
        "weights": trained.weights,
        "data": test.dataset.as_record(),
        "matched_by_order": test.matched_by_order,
        "overrides": overrides,
        **asdict(result),
        "balanced_accuracy": result.balanced_accuracy,
        "environment": {**environment.describe(), **describe_engine(trained.engine)},
    }
    run.write_json(f"evaluation{end}.json", record)
    picture = run.path / f"confusion{end}.png"
    note = f"accuracy {result.accuracy:.4f}"
    draw_confusion(picture, result.confusion, trained.dataset.classes, heading, note)
    recorded = find_figure(read_json_or_empty(run.path / "result.json"), "test_accuracy")
    if not overrides and recorded not in (None, result.accuracy):
        print(f"The run itself measured {recorded:.4f}, with another device, precision or version.")
    print(os.path.relpath(run.path / f"evaluation{end}.json"), os.path.relpath(picture), sep="\n")
