"""Read what a run resumes from, and check that it may be resumed as asked."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnbench import config as configuration
from cnnbench.analysis.format import format_count
from cnnbench.config import FOLDER, Config, as_dict
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
from cnnbench.training.state import State, check_values

__all__ = ["ResumeState", "check_resume", "describe_finished", "reopen_run"]


@dataclass(frozen=True)
class ResumeState:
    """What a run resumes from.

    `last` and `best` are last.pt and best.pt; `last` is None before the first checkpoint.
    `problems` are to be logged; `changes` are the changed keys of the configuration.
    """

    last: State | None = None
    best: State | None = None
    problems: Sequence[str] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    is_finished: bool = False

    @property
    def epochs(self) -> int:
        """How many epochs are finished."""
        return 0 if self.last is None else len(self.last["rows"])


@contextmanager
def reopen_run(
    directory: Path,
    wanted: Config | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    allow_custom_model: bool = False,
    rest: Sequence[str] = (),
) -> Iterator[tuple[RunDirectory, Config, ResumeState]]:
    """Open a training run that ended, for this process alone, and read what it resumes from.

    Gives its directory, the configuration to go on with, and its state. The configuration is the
    `wanted` one of a job, whose values the run must have been trained with; without it the recorded
    one with `changes`. The directory may be untrusted: `rest` is what the user has typed beside it.

    Raises:
        ConfigError: it holds no training run, is in use, leads out of itself, has other values, or
            cannot be changed so.
        CheckpointError: what it holds is damaged or refused. Nothing is overwritten.
    """
    status = check_training_run(directory)
    began = str(status.get("began", status.get("since")))
    with reopen(directory, began) as run_directory:
        values, resume = _read(directory, status["state"] == "finished", changes or {})
        if wanted is not None:
            if values is not None:
                configuration.require_same(directory, values, as_dict(wanted))
            yield run_directory, wanted, resume
            return
        if values is None:
            raise ConfigError(
                f"{directory} holds nothing to go on from: the run had not begun. Delete it, and "
                "start the run again with its own command."
            )
        config = configuration.apply_overrides(values, resume.changes)
        confirmed = {(key, str(value)) for key, value in resume.changes.items()}
        if resume.last is not None:  # the images must be those of before, so who made it had them
            confirmed.add(("data.path", str(config.data.path)))
        command = [*processes().program(), "resume", os.path.relpath(directory)]
        configuration.check_trust(directory, config, confirmed, allow_custom_model, command, rest)
        _require_epochs(directory, config, resume)
        yield run_directory, config, resume


def check_resume(directory: Path, config: Config, resume: ResumeState) -> Preflight:
    """Check the configuration as for a new run, and that the images are those trained on before.

    Raises:
        ConfigError: the configuration is wrong here, or the images of a folder are others.
        CheckpointError: the run does not say which images they were.
    """
    checked = check(config)
    if config.data.name == FOLDER and resume.last is not None:  # those of the catalog are the same
        before, (now, _) = read_dataset(directory), datasets.load(config.data)
        if (before.sha256, before.classes) != (now.sha256, now.classes):
            raise ConfigError(
                f"The images in data.path={config.data.path} are not those that {directory} was "
                f"trained on: {_describe_changes(before, now)}. Restore them, name the folder "
                "they are in with data.path=DIR, or start a new run."
            )
    return checked


def describe_finished(directory: Path) -> str:
    """Return the sentence that the run is finished, with its test accuracy."""
    accuracy = find_figure(read_json_or_empty(directory / "result.json"), "test_accuracy")
    end = "" if accuracy is None else f" with a test accuracy of {accuracy:.4f}"
    return f"{os.path.relpath(directory)} is finished{end}."


def _read(
    directory: Path, is_finished: bool, changes: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, ResumeState]:
    """Return the values of the recorded configuration, None if there are none, and the state.

    The checkpoint's configuration counts: it has a checksum.
    """
    used = "the checkpoint's configuration is used"
    last, problems = checkpoint.load_newest(directory / "checkpoints")
    values = None
    try:
        values = read_config(directory)
    except (OSError, ConfigError) as error:
        if last is None and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise  # what cannot be read has begun all the same
        if last is not None:
            problems.append(f"config.yaml is damaged ({error}); {used}.")
    if last is None:
        return values, ResumeState(None, None, problems, changes, is_finished)
    check_values(last)
    identity = configuration.job_identity
    if values is not None and identity(values) != identity(last["config"]):
        problems.append(f"config.yaml is not what the run was trained with; {used}.")
    chooses = bool(last["rows"]) and "validation_accuracy" in last["rows"][-1]
    best = checkpoint.load(directory / "checkpoints" / "best.pt") if chooses else None
    return last["config"], ResumeState(last, best, problems, changes, is_finished)


def _require_epochs(directory: Path, config: Config, resume: ResumeState) -> None:
    """Check that train.epochs is not below what is done, and that there is what to resume from."""
    if resume.last is None and resume.is_finished:
        finished = describe_finished(directory)
        raise CheckpointError(f"{finished} It has no checkpoint to train it longer from.")
    epochs, step = config.train.epochs, 0 if resume.last is None else resume.last["step"]
    if epochs < resume.epochs + (step > 0):
        done = format_count(resume.epochs, "epoch")
        done += f" and {format_count(step, 'step')} of the next" if step else ""
        finished = f"{directory} has finished {done}"
        raise ConfigError(f"train.epochs={epochs}: {finished}. It can only become more.")


def _describe_changes(before: Dataset, now: Dataset) -> str:
    """Return in words what is not the same in two data sets."""
    new = [name for name in now.classes if name not in before.classes]
    gone = [name for name in before.classes if name not in now.classes]
    lists = (("new classes", new), ("missing classes", gone))
    changes = [f"{what} {', '.join(names)}" for what, names in lists if names]
    number = now.train_examples + now.test_examples
    number_before = before.train_examples + before.test_examples
    if number != number_before:
        changes.append(f"{format_count(number, 'image')}, not {number_before:,}")
    same_number = f"some of the {format_count(number, 'image')} were changed, renamed or moved"
    return "; ".join(changes) or same_number
