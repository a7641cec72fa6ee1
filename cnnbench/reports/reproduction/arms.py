"""The runs of an experiment, sorted into its arms: those that differ in the seed alone."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from cnnbench import config, models
from cnnbench.analysis.memory import compute_dtype, estimate_memory
from cnnbench.data import datasets
from cnnbench.errors import CnnbenchError, DivergedError
from cnnbench.reports.comparison import error
from cnnbench.reports.groups import Group
from cnnbench.reports.table import as_text
from cnnbench.runs.records import Record
from cnnbench.training.build import on_meta

__all__ = ["CLOSE", "Arm", "Experiment", "Experiments", "plain_value", "sort_runs"]

CLOSE = 0.05  # of accuracy


@dataclass(frozen=True)
class Arm:
    """Runs that are repetitions of one another; `values` sets them apart from other arms."""

    values: Mapping[str, str]
    runs: Sequence[Record]

    @property
    def label(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.values.items())

    @cached_property
    def finished(self) -> list[Record]:
        """Return one run for each seed, the latest that has the figures of a run."""
        finished = [run for run in self.runs if run.state == "finished" and run.rows]
        sound = [run for run in finished if run.figure("test_accuracy") is not None]
        return Group((), sound).repetitions

    def samples(self, figure: str) -> list[float]:
        """Return a figure of each finished run that has it; the memory by one run alone."""
        if figure == "memory":
            return self._memory_mib
        measured = map(_measure, self.finished)
        return [figures[figure] for figures in measured if figure in figures]

    @property
    def accuracy_by_seed(self) -> dict[str, float]:
        """Return the accuracy of each seed; 0 where training diverged."""
        diverged = {run.plain_value("seed"): 0.0 for run in self.diverged}
        seeds = [run.plain_value("seed") for run in self.finished]
        return diverged | dict(zip(seeds, self.samples("accuracy"), strict=True))

    @property
    def diverged(self) -> list[Record]:
        failed = [run for run in self.runs if run.state == "failed"]
        return [run for run in failed if run.status.get("exit_code") == DivergedError.exit_code]

    @cached_property
    def _memory_mib(self) -> list[float]:
        for run in self.finished:
            number = _estimate_memory(run)
            if number is not None:
                return [number / 2**20]
        return []

    @property
    def precisions(self) -> set[str]:
        return {as_text(run.environment.get("precision", "?")) for run in self.finished}

    @property
    def unfinished(self) -> str:
        """Return what became of other runs: ``1 failed (Out of memory), 2 not begun``."""
        others = [run for run in self.runs if run.state != "finished"]
        states = Counter((run.state, as_text(error(run)).rstrip(".")) for run in others)
        words = []
        for (state, reason), number in states.items():
            words.append(f"{number} {state}" + (f" ({reason})" if reason else ""))
        return ", ".join(words)


def _measure(run: Record) -> dict[str, float]:
    """Return the figures of a finished run; those that its files lack are left out."""
    accuracy = run.figure("test_accuracy") or 0.0
    train_accuracy = run.figure("final", "train_accuracy")
    accuracies, losses = run.column("test_accuracy"), run.column("test_loss")
    times, peaks = run.column("epoch_s"), run.column("peak_gib")
    figures = {"accuracy": accuracy}
    if train_accuracy is not None:
        figures["train_less_test"] = train_accuracy - accuracy
    if accuracies:
        close = [each >= accuracies[-1] - CLOSE for each in accuracies]
        figures["epochs_to_converge"] = 1.0 + close.index(True)
    if losses:
        figures["test_loss_rise"] = losses[-1] - min(losses)
    if times:
        figures["epoch_s"] = statistics.median(times)
    if peaks and run.result.get("device") == "cuda":  # on a CPU it is that of the process
        figures["peak_gib"] = max(peaks)
    return figures


def _estimate_memory(run: Record) -> int | None:
    """Return the bytes of the tensors that training took; None if they cannot be worked out."""
    try:
        settings = config.load(run.config)
        if settings.model.name not in models.REGISTRY or settings.data.name == config.FOLDER:
            return None  # code to run, or files to read, that are anyone's
        dataset = datasets.dataset_info(settings.data)
        network, images = on_meta(settings, dataset, settings.train.batch_size)
        dtype = compute_dtype(str(run.result.get("precision")))
        return estimate_memory(network, images, settings.optimizer, dtype).total
    except CnnbenchError:
        return None


@dataclass(frozen=True)
class Experiment:
    """`reduced` has the overrides by which a scale makes it smaller, if it does."""

    arms: Sequence[Arm]
    reduced: str = ""


Experiments = Mapping[str, Experiment]


def sort_runs(runs: Sequence[Record], varied: Mapping[str, str], reduced: str = "") -> Experiment:
    """Return the runs of an experiment in arms, in the order of the values that it varies."""
    keys = [key for key in varied if key != "seed"]
    known = product(*(map(plain_value, varied[key].split(",")) for key in keys))
    arms: dict[tuple[str, ...], list[Record]] = {values: [] for values in known}
    for run in runs:
        values = tuple(plain_value(run.plain_value(key)) for key in keys)
        arms.setdefault(values, []).append(run)
    found = [Arm(dict(zip(keys, values, strict=True)), arms[values]) for values in arms]
    return Experiment([arm for arm in found if arm.runs], reduced)


def plain_value(value: str) -> str:
    """Return a value spelt the same in all runs: 10 for 10.0 too."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return as_text(value)
