"""Experiments and their arms. The runs of an arm differ only in the seed."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from cnnbench import config, models
from cnnbench.analysis.memory import compute_dtype, estimate_memory
from cnnbench.data import datasets
from cnnbench.errors import CnnbenchError, DivergedError
from cnnbench.reports.grouping import RunGroup
from cnnbench.reports.tables import as_text
from cnnbench.runs.records import Record
from cnnbench.training.build import on_meta

__all__ = ["ACCURACY_TOLERANCE", "Arm", "Experiment", "sort_runs"]

ACCURACY_TOLERANCE = 0.05  # accuracies this close count as equal


@dataclass(frozen=True)
class Arm:
    """Repetitions of one run. The overrides in `words` distinguish it from other arms."""

    words: Sequence[str]
    runs: Sequence[Record]

    @property
    def values(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self.words)

    @cached_property
    def finished(self) -> list[Record]:
        """Return the latest finished run of each seed. Runs without figures are left out."""
        finished = [run for run in self.runs if run.state == "finished" and run.rows]
        complete = [run for run in finished if run.figure("test_accuracy") is not None]
        return RunGroup((), complete).repetitions

    @property
    def diverged(self) -> list[Record]:
        code = DivergedError.exit_code
        return [run for run in self.runs if run.status.get("exit_code") == code]

    def samples(self, figure: str) -> list[float]:
        """Return a figure of each finished run that has it. One run suffices for the memory."""
        if figure == "memory":
            estimates = map(_estimate_memory, self.finished[:1])
            return [memory / 2**20 for memory in estimates if memory is not None]
        measured = map(_measure, self.finished)
        return [figures[figure] for figures in measured if figure in figures]

    @property
    def accuracy_by_seed(self) -> dict[str, float]:
        """Return the accuracy of each seed, 0 if training diverged."""
        diverged = {run.value("seed"): 0.0 for run in self.diverged}
        seeds = [run.value("seed") for run in self.finished]
        return diverged | dict(zip(seeds, self.samples("accuracy"), strict=True))

    @property
    def precisions(self) -> set[str]:
        return {as_text(run.environment.get("precision", "?")) for run in self.finished}

    @property
    def unfinished(self) -> str:
        """Return the states of unfinished runs: ``1 failed (Out of memory), 2 not begun``."""
        unfinished = [run for run in self.runs if run.state != "finished"]
        states = Counter((run.state, as_text(run.error).rstrip(".")) for run in unfinished)
        parts = []
        for (state, reason), number in states.items():
            parts.append(f"{number} {state}" + (f" ({reason})" if reason else ""))
        return ", ".join(parts)


class Experiment(NamedTuple):
    """The arms of an experiment. `reduced` has the overrides that make it smaller, if any."""

    arms: list[Arm]
    reduced: str


def sort_runs(
    runs: Sequence[Record], jobs: Mapping[str, Sequence[Sequence[str]]], reduced: Mapping[str, str]
) -> dict[str, Experiment]:
    """Return the experiments by name, their arms in the order of their `jobs` at full scale.

    `jobs` has the overrides of each job: the first names the experiment.
    """
    experiments = {}
    for name in jobs:
        arms: dict[tuple[str, ...], list[Record]] = {}
        for _, *words in jobs[name]:
            arms[tuple(word for word in words if not word.startswith("seed="))] = []
        keys = [word.partition("=")[0] for word in next(iter(arms))]
        for run in runs:
            if run.value("experiment") == name:
                values = tuple(f"{key}={as_text(run.value(key))}" for key in keys)
                arms.setdefault(values, []).append(run)
        arms_with_runs = [Arm(values, members) for values, members in arms.items() if members]
        experiments[name] = Experiment(arms_with_runs, reduced[name])
    return experiments


def _measure(run: Record) -> dict[str, float]:
    """Return the figures of a finished run, without those that its files lack."""
    accuracies, losses = run.column("test_accuracy"), run.column("test_loss")
    times, train_accuracies = run.column("epoch_s"), run.column("train_accuracy")
    figures = {"accuracy": run.figure("test_accuracy") or 0.0}
    if train_accuracies:
        figures["train_less_test"] = train_accuracies[-1] - figures["accuracy"]
    if accuracies:
        close = [accuracy >= accuracies[-1] - ACCURACY_TOLERANCE for accuracy in accuracies]
        figures["epochs_to_converge"] = 1.0 + close.index(True)
    if losses:
        figures["test_loss_rise"] = losses[-1] - min(losses)
    if times:
        figures["epoch_s"] = statistics.median(times)
    return figures


def _estimate_memory(run: Record) -> int | None:
    """Return the bytes of the tensors that training needs, None if they cannot be estimated."""
    try:
        settings = config.load_config(run.config)
        if settings.model.name not in models.REGISTRY or settings.data.name == config.FOLDER:
            return None  # untrusted: an estimate would run its code or read its files
        dataset = datasets.dataset_info(settings.data)
        network, images = on_meta(settings, dataset, settings.train.batch_size)
        dtype = compute_dtype(str(run.result.get("precision")))
        return estimate_memory(network, images, settings.optimizer, dtype).total
    except CnnbenchError:
        return None
