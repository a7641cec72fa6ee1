"""results.csv: a row for each run of `cnnbench reproduce`, of this machine or of another."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cnnbench import config
from cnnbench.config.field_types import (
    Group,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Ratio,
    Text,
)
from cnnbench.errors import ConfigError, DivergedError
from cnnbench.reports.tables import as_text
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.reading import look_up, read_text
from cnnbench.runs.records import Record

__all__ = [
    "ACCURACY_TOLERANCE",
    "StoredRun",
    "merge_runs",
    "read_stored_runs",
    "store_run",
    "write_stored_runs",
]

ACCURACY_TOLERANCE = 0.05  # accuracies this close count as equal
LEARNING_EPOCHS = 2  # epochs of its recipe that a network needs to show what it learns
MAX_BYTES = 8 << 20  # a row has about 300 bytes


class StoredRun(Group, frozen=True, kw_only=True):
    """A run that finished or diverged. The fields are the columns of results.csv.

    `overrides` are those besides experiment and seed, and `accuracies` the test accuracies after
    each epoch, both separated by spaces. `threads` counts those of the CPU. `recipe_steps` are the
    steps of the first two epochs of the network's recipe.
    """

    experiment: Text
    overrides: str = ""
    seed: NonNegativeInt
    chip: Text
    device: Text
    precision: Text
    threads: PositiveInt | None = None
    state: Literal["diverged", "finished"]
    accuracy: Ratio | None = None
    loss: NonNegativeFloat | None = None
    accuracies: str = ""
    train_less_test: Annotated[float, Meta(ge=-1, le=1)] | None = None
    test_loss_rise: NonNegativeFloat | None = None
    shift_ratio: NonNegativeFloat | None = None
    epoch_s: NonNegativeFloat | None = None
    peak_gib: NonNegativeFloat | None = None
    steps: NonNegativeInt
    recipe_steps: NonNegativeInt
    seconds: NonNegativeFloat | None = None
    cnnbench: str = ""
    torch: str = ""
    commit: str = ""

    def __post_init__(self) -> None:
        if (self.state == "finished") != (self.accuracy is not None):
            raise ConfigError(f"state={self.state}: finished runs have an accuracy, others none.")
        try:
            _ = self.epochs_to_converge
        except ValueError as error:
            text = f"accuracies={self.accuracies}"
            raise ConfigError(f"{text} are not numbers with spaces between them.") from error

    @property
    def words(self) -> list[str]:
        return self.overrides.split()

    @property
    def job(self) -> frozenset[str]:
        """Return the overrides of the run, with experiment and seed."""
        return frozenset([f"experiment={self.experiment}", *self.words, f"seed={self.seed}"])

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Return what identifies the run. A later run with the same key replaces it."""
        return self.experiment, self.overrides, self.seed, self.chip

    @property
    def is_long_enough(self) -> bool:
        """Return whether the network could learn: its training took two epochs of its recipe."""
        return self.steps >= self.recipe_steps

    @property
    def epochs_to_converge(self) -> float | None:
        """Return the epochs until the test accuracy is close to the last; None if unknown."""
        accuracies = [float(accuracy) for accuracy in self.accuracies.split()]
        if not accuracies:
            return None
        close = [accuracy >= accuracies[-1] - ACCURACY_TOLERANCE for accuracy in accuracies]
        return 1.0 + close.index(True)


def store_run(run: Record, job: Sequence[str]) -> StoredRun | None:
    """Return the row of a run that finished or diverged, and None for any other run.

    `job` has the overrides of the run: its experiment first, none of the machine.
    """
    accuracy, rows = run.figure("test_accuracy"), run.rows
    is_finished = run.state == "finished" and bool(rows) and accuracy is not None
    if not is_finished and run.status.get("exit_code") != DivergedError.exit_code:
        return None
    experiment, *words = job
    environment = {key: as_text(run.environment.get(key)) for key in ENVIRONMENT}
    values: dict[str, Any] = {
        "experiment": experiment.partition("=")[2],
        "overrides": " ".join(word for word in words if not word.startswith("seed=")),
        "seed": run.value("seed"),
        "state": "finished" if is_finished else "diverged",
        "threads": run.environment.get("threads"),
        **_count_steps(run),
        **environment,
    }
    if is_finished:
        values |= _measure(run)
    return config.from_dict(StoredRun, _without_empty(values))


ENVIRONMENT = ("chip", "device", "precision", "cnnbench", "torch", "commit")


def _count_steps(run: Record) -> dict[str, int]:
    """Return the steps of a run, and those of two epochs of its network's recipe."""
    batch_size = look_up(run.config, "train", "batch_size") or math.inf
    recipe_size = look_up(run.config, "model", "recipe", "batch_size") or math.inf
    num_train = look_up(run.environment, "data", "train") or 0
    num_recipe = run.dataset.get("train_examples", 0)
    return {
        "steps": len(run.rows) * math.ceil(num_train / batch_size),
        "recipe_steps": LEARNING_EPOCHS * math.ceil(num_recipe / recipe_size),
    }


def _measure(run: Record) -> dict[str, Any]:
    """Return the figures of a finished run. Those that its files lack are None."""
    accuracies, losses = run.column("test_accuracy"), run.column("test_loss")
    times, peaks = run.column("epoch_s"), run.column("peak_gib")
    accuracy, train_accuracies = run.figure("test_accuracy"), run.column("train_accuracy")
    figures: dict[str, float | None] = {
        "accuracy": accuracy,
        "loss": run.figure("test_loss"),
        "seconds": run.figure("wall_s", "total"),
        "test_loss_rise": losses[-1] - min(losses) if losses else None,
        "epoch_s": statistics.median(times) if times else None,
        "peak_gib": max(peaks) if peaks and run.result.get("device") == "cuda" else None,
    }
    if train_accuracies and accuracy is not None:
        figures["train_less_test"] = train_accuracies[-1] - accuracy
    rounded = {name: _round(figure) for name, figure in figures.items() if figure is not None}
    return {**rounded, "accuracies": " ".join(str(_round(reached)) for reached in accuracies)}


def _round(figure: float) -> float:
    return float(f"{figure:.6g}")


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in ("", None)}


def merge_runs(stored: Iterable[StoredRun], new: Iterable[StoredRun]) -> list[StoredRun]:
    """Return all runs in the order of their keys. New ones replace those with the same key."""
    runs = {run.key: run for run in (*stored, *new)}
    return [runs[key] for key in sorted(runs)]


def read_stored_runs(path: Path) -> list[StoredRun]:
    """Return the runs in a results.csv, none if there is no file.

    Raises:
        ConfigError: the file is damaged.
        OSError: it cannot be read.
    """
    columns, line = list(StoredRun.__struct_fields__), 1
    try:
        text = read_text(path, MAX_BYTES)
        reader = csv.DictReader(io.StringIO(text), strict=True)
        if list(reader.fieldnames or ()) != columns:
            raise ConfigError(f"the columns must be {','.join(columns)}")
        runs = []
        for row in reader:
            line = reader.line_num
            if None in row or None in row.values():
                raise ConfigError(f"it has not {len(columns)} values, one for each column")
            runs.append(config.from_dict(StoredRun, _without_empty(row)))
        if not text.endswith("\n"):
            raise ConfigError("its end is missing")
    except FileNotFoundError:
        return []
    except (ConfigError, ValueError, csv.Error) as error:
        reason = str(error).rstrip(".")
        advice = f"Restore it (git checkout {path}), or move it away to begin a new one."
        raise ConfigError(f"{path} is damaged. Line {line}: {reason}. {advice}") from error
    return runs


def write_stored_runs(folder: RunDirectory, name: str, runs: Sequence[StoredRun]) -> None:
    """Write a results.csv into a folder.

    Raises:
        OSError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(StoredRun.__struct_fields__)
    writer.writerows(map(msgspec.structs.astuple, runs))
    folder.write_text(name, text.getvalue())
