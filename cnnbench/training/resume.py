"""Read the state of an interrupted run, and check that it can be resumed as requested."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnbench import config as configuration
from cnnbench.analysis.format import format_count
from cnnbench.config import FOLDER, Config, TrainConfig, as_dict
from cnnbench.data import datasets
from cnnbench.data.catalog import Dataset
from cnnbench.errors import CheckpointError, ConfigError
from cnnbench.runs.directory import RunDirectory, reopen
from cnnbench.runs.reading import (
    check_training_run,
    find_figure,
    read_config,
    read_json_or_empty,
)
from cnnbench.runs.torchrun_env import processes
from cnnbench.training import checkpoint
from cnnbench.training.load_model import read_dataset
from cnnbench.training.preflight import Preflight, check
from cnnbench.training.state import Row, State, check_values, find_ending, is_row

__all__ = ["ResumeState", "check_resume", "describe_finished", "reopen_run"]


@dataclass(frozen=True)
class ResumeState:
    """The checkpoints that a run resumes from.

    `last` and `best` are last.pt and best.pt. `last` is None before the first checkpoint.
    `problems` are messages to log. `changes` are the changed keys of the configuration.
    """

    last: State | None = None
    best: State | None = None
    problems: Sequence[str] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    is_finished: bool = False

    @property
    def rows(self) -> list[Row]:
        """The rows of metrics.csv that the last checkpoint has."""
        return [] if self.last is None else self.last["rows"]

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.rows)

    def ended_by(self, train: TrainConfig) -> str | None:
        """Return what has ended the run, as `find_ending` does; None if nothing has."""
        if self.last is None or not self.is_finished:
            return None
        best = None if self.best is None else self.best.get("row")
        return find_ending(train, self.rows, best if is_row(best) else None)


@contextmanager
def reopen_run(
    directory: Path,
    wanted: Config | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    allow_custom_model: bool = False,
    rest: Sequence[str] = (),
) -> Iterator[tuple[RunDirectory, Config, ResumeState]]:
    """Lock a training run that ended, which may be untrusted, and read its state.

    Yield its directory, its configuration and its state. Nothing is overwritten.

    Args:
        directory: the run directory.
        wanted: the configuration of a command. The run must have been trained with its values.
        changes: changes of the recorded configuration, if `wanted` is None.
        allow_custom_model: whether the Python file of a custom model may be run.
        rest: the words of the command line after the directory.

    Raises:
        ConfigError: `directory` is not a training run, is in use, has links to outside, was trained
            with other values, or the changes are refused.
        CheckpointError: a checkpoint is damaged or refused.
    """
    status = check_training_run(directory)
    began = str(status.get("began", status.get("since", "")))
    with reopen(directory, began) as run_directory:
        values, resume = _read(directory, status["state"] == "finished", changes or {})
        if wanted is not None:
            if values is not None:
                configuration.require_same(directory, values, as_dict(wanted))
            yield run_directory, wanted, resume
            return
        if values is None:
            raise ConfigError(
                f"{directory} has nothing to resume: the run had not begun. Delete it, and "
                "start the run again with its own command."
            )
        config = configuration.apply_overrides(values, resume.changes)
        confirmed = {(key, str(value)) for key, value in resume.changes.items()}
        if resume.last is not None:
            # Safe to read: `check_resume` requires the images that the run was trained on.
            confirmed.add(("data.path", str(config.data.path)))
            _require_same_weights(directory, config, values)
            confirmed.add(("model.weights", str(config.model.weights)))  # no longer read
        command = [*processes().program(), "resume", os.path.relpath(directory)]
        configuration.check_trust(directory, config, confirmed, allow_custom_model, command, rest)
        _require_epochs(directory, config, resume)
        yield run_directory, config, resume


def check_resume(directory: Path, config: Config, resume: ResumeState) -> Preflight:
    """Check the configuration as for a new run, and that a folder still has the same images.

    Raises:
        ConfigError: the configuration is wrong, or the images have changed.
        CheckpointError: the record of the data set is missing or damaged.
    """
    checked = check(config, starts=resume.last is None)
    if config.data.name == FOLDER and resume.last is not None:  # only folders can change
        before, (now, _) = read_dataset(directory), datasets.load_dataset(config.data)
        if (before.sha256, before.classes) != (now.sha256, now.classes):
            raise ConfigError(
                f"The images in data.path={config.data.path} are not those that {directory} was "
                f"trained on: {_describe_changes(before, now)}. Restore them, name the folder "
                "they are in with data.path=DIR, or start a new run."
            )
    return checked


def describe_finished(directory: Path) -> str:
    """Return a sentence that the run is finished, with its test accuracy if it is recorded."""
    accuracy = find_figure(read_json_or_empty(directory / "result.json"), "test_accuracy")
    result = "" if accuracy is None else f" with a test accuracy of {accuracy:.4f}"
    return f"{os.path.relpath(directory)} is finished{result}."


def _read(
    directory: Path, is_finished: bool, changes: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, ResumeState]:
    """Return the recorded configuration, None if there is none, and the state of the run.

    The configuration in the checkpoint takes precedence over config.yaml, as it has a checksum.
    """
    used = "the checkpoint's configuration is used"
    last, problems = checkpoint.load_newest(directory / "checkpoints")
    values = None
    try:
        values = read_config(directory)
    except (OSError, ConfigError) as error:
        if last is None and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise  # the run may have begun
        if last is not None:
            problems.append(f"config.yaml is damaged ({error}); {used}.")
    if last is None:
        return values, ResumeState(None, None, problems, changes, is_finished)
    check_values(last)
    identity = configuration.job_identity
    if values is not None and identity(values) != identity(last["config"]):
        problems.append(f"config.yaml differs from the configuration of the training; {used}.")
    has_best = bool(last["rows"]) and "validation_accuracy" in last["rows"][-1]
    best = checkpoint.load_checkpoint(directory / "checkpoints" / "best.pt") if has_best else None
    return last["config"], ResumeState(last, best, problems, changes, is_finished)


def _require_epochs(directory: Path, config: Config, resume: ResumeState) -> None:
    """Check that train.epochs is not below the trained epochs, and that a checkpoint exists."""
    if resume.last is None and resume.is_finished:
        finished = describe_finished(directory)
        raise CheckpointError(f"{finished} It has no checkpoint, so it cannot be trained longer.")
    epochs, step = config.train.epochs, 0 if resume.last is None else resume.last["step"]
    if epochs < resume.epochs + (step > 0):
        trained = format_count(resume.epochs, "epoch")
        if step:
            trained += f" and {format_count(step, 'step')} of the next"
        raise ConfigError(
            f"train.epochs={epochs} is less than the {trained} already trained in {directory}."
        )


def _require_same_weights(directory: Path, config: Config, values: Mapping[str, Any]) -> None:
    """Check that model.weights is as recorded: the checkpoint has the weights."""
    weights, recorded = config.model.weights, values["model"].get("weights")
    if weights != recorded:
        raise ConfigError(
            f"model.weights={weights}: {directory} has already started, from model.weights="
            f"{recorded}. Leave it out, or start a new run."
        )


def _describe_changes(before: Dataset, now: Dataset) -> str:
    """Return the differences of two data sets in words."""
    new = [name for name in now.classes if name not in before.classes]
    missing = [name for name in before.classes if name not in now.classes]
    changes = []
    if new:
        changes.append(f"new classes {', '.join(new)}")
    if missing:
        changes.append(f"missing classes {', '.join(missing)}")
    num_images = now.train_examples + now.test_examples
    num_images_before = before.train_examples + before.test_examples
    if num_images != num_images_before:
        changes.append(f"{format_count(num_images, 'image')}, not {num_images_before:,}")
    unlisted = f"some of the {format_count(num_images, 'image')} were changed, renamed or moved"
    return "; ".join(changes) or unlisted
