"""`cnnbench resume`: a training run goes on from its last checkpoint, in the middle of an epoch too."""

import logging
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench import config as configuration
from cnnbench.commands import train
from cnnbench.commands.trained import read_dataset
from cnnbench.config import FOLDER, KEYS_NEEDING_CONFIRMATION, Config, as_dict, to_yaml
from cnnbench.data import sources
from cnnbench.data.catalog import Dataset
from cnnbench.errors import CheckpointError, ConfigError
from cnnbench.runs.directory import RunDirectory, reopen
from cnnbench.runs.processes import processes
from cnnbench.runs.reading import read_accuracy, read_json, read_status, read_text, refuse_ways_out
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.training import checkpoint
from cnnbench.training.checkpoint import State
from cnnbench.training.preflight import check
from cnnbench.training.state import check_values

__all__ = ["command", "repeat", "run"]

log = logging.getLogger("cnnbench")

Values = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """What a run directory holds: the configuration, last.pt and best.pt if they are there, and what is wrong."""

    values: Values | None
    last: State | None
    best: State | None
    problems: list[str]

    @property
    def epochs(self) -> int:
        """How many are finished."""
        return 0 if self.last is None else len(self.last["rows"])


def command(directory: Path, config: Config) -> str:
    """The command line that goes on with a run."""
    words = [*processes().program(), "resume", os.path.relpath(directory)]
    values = _elsewhere(config)
    words += [configuration.format_override(key, value) for key, value in values.items()]
    words += ["--allow-custom-model"] if ":" in config.model.name else []
    return shlex.join(words)


def _elsewhere(config: Config) -> dict[str, str]:
    """The keys by which a run writes outside its directory, where they have a value."""
    uri = None if config.tracker.mlflow is None else config.tracker.mlflow.uri
    values = {"data.root": config.data.root, "tracker.mlflow.uri": uri}
    return {key: value for key, value in values.items() if value is not None}


def run(
    directory: Path,
    changes: Mapping[str, Any],
    allow_custom_model: bool,
    watch: Stopwatch,
    begin: Callable[[], None],
) -> None:
    """Go on with the training run in `directory`, which may be anyone's; of one that is finished, say so.

    `changes` are keys of the configuration and their new values. `begin` is called when it is clear that the run
    goes on, before anything is logged.

    Raises:
        ConfigError: it holds no training run, is in use, leads out of itself, or cannot be changed so.
        CheckpointError: what it holds is damaged or refused. Nothing is overwritten.
        CnnbenchError: as training itself.
    """
    refuse_ways_out(directory)
    status = read_status(directory)
    if status.get("verb", "train") != "train":
        raise ConfigError(f"{directory} holds no training run but what cnnbench {status['verb']} left.")
    with reopen(directory) as opened:
        recorded = _read(directory)
        if recorded.values is None:
            raise ConfigError(
                f"{directory} holds nothing to go on from: the run had not begun. Delete it, and start the run again "
                "with its own command."
            )
        settings = configuration.apply_overrides(recorded.values, changes)
        _require_consent(directory, settings, changes, allow_custom_model)
        _require_own_images(directory, settings, recorded, changes)
        _require_epochs(directory, settings, recorded)
        if status["state"] == "finished" and settings.train.epochs == recorded.epochs:
            print(f"{_finished(directory)} Nothing to do; train.epochs={2 * recorded.epochs} would train it longer.")
            return
        check(settings)
        _require_same_images(directory, settings, recorded)
        begin()
        _go_on(opened, settings, recorded, changes, watch)


def repeat(directory: Path, settings: Config, watch: Stopwatch) -> float:
    """A job of a sweep whose directory holds a run: goes on with it. Returns what it is compared by.

    Raises:
        ConfigError: it is in use, or a run with other values.
        CnnbenchError: as training itself.
    """
    refuse_ways_out(directory)
    status = read_status(directory)
    with reopen(directory) as opened:
        recorded = _read(directory)
        if recorded.values is not None:
            configuration.require_same(directory, recorded.values, as_dict(settings))
        if status["state"] == "finished":
            accuracy = read_accuracy(directory)
            if accuracy is not None:
                log.info(_finished(directory))
                return accuracy
        check(settings)
        _require_same_images(directory, settings, recorded)
        return _go_on(opened, settings, recorded, {}, watch)


def _read(directory: Path) -> Recorded:
    """What training goes on from. The checkpoint's configuration counts: it has a checksum.

    Raises:
        CheckpointError: no checkpoint that is there can be used.
        OSError: the machine gives neither a checkpoint nor config.yaml.
    """
    last, problems = checkpoint.load_newest(directory / "checkpoints")
    values: Values | None = None
    try:
        values = configuration.parse(read_text(directory / "config.yaml"))
    except (OSError, ValueError, ConfigError) as error:
        if last is None and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise  # what cannot be read has begun all the same
        if last is not None:
            problems.append(f"config.yaml is damaged ({error}); the checkpoint's configuration is used.")
    if last is None:
        return Recorded(values, None, None, problems)
    check_values(last)
    if values is not None and configuration.job_identity(values) != configuration.job_identity(last["config"]):
        problems.append("config.yaml is not what the run was trained with; the checkpoint's configuration is used.")
    chooses = bool(last["rows"]) and "validation_accuracy" in last["rows"][-1]
    best = checkpoint.load(directory / "checkpoints" / "best.pt") if chooses else None
    return Recorded(last["config"], last, best, problems)


def _require_consent(directory: Path, settings: Config, changes: Mapping[str, Any], allow_custom_model: bool) -> None:
    """What a run directory of a stranger may not decide by itself: which code runs, and what is written elsewhere."""
    if ":" in settings.model.name and not allow_custom_model:
        raise ConfigError(
            f"The network of {directory} is {settings.model.name}, code that is not cnnbench's. "
            f"If you trust it: {command(directory, settings)}"
        )
    for key, value in _elsewhere(settings).items():
        if key not in changes:
            raise ConfigError(
                f"{directory} {KEYS_NEEDING_CONFIRMATION[key]}: {key}={value}. "
                f"If that is yours: {command(directory, settings)}"
            )


def _require_own_images(directory: Path, settings: Config, recorded: Recorded, changes: Mapping[str, Any]) -> None:
    """Check that a run without a checkpoint reads no folder elsewhere unless the user has named it.

    With a checkpoint the images must be those of before, which who made it must have had.

    Raises:
        ConfigError: it would.
    """
    path = settings.data.path
    if path is None or recorded.last is not None or "data.path" in changes:
        return
    if configuration.leads_out(path):
        override = configuration.format_override("data.path", path)
        again = f"{command(directory, settings)} {shlex.quote(override)}"
        raise ConfigError(f"{directory} reads images from elsewhere: {override}. If that is yours: {again}")


def _require_same_images(directory: Path, settings: Config, recorded: Recorded) -> None:
    """The images of a folder must be those that the run has trained on. What is in the catalog is always the same.

    Raises:
        ConfigError: they are others.
        CheckpointError: the run does not say which they were.
    """
    if settings.data.name != FOLDER or recorded.last is None:
        return
    then, (now, _) = read_dataset(directory, settings), sources.load(settings.data)
    if (then.sha256, then.classes) != (now.sha256, now.classes):
        raise ConfigError(
            f"The images in data.path={settings.data.path} are not those that {directory} was trained on: "
            f"{_changes(then, now)}. Restore them, name the folder they are in with data.path=DIR, or start a new run."
        )


def _changes(then: Dataset, now: Dataset) -> str:
    """What is not the same in two data sets, in words."""
    new = [name for name in now.classes if name not in then.classes]
    gone = [name for name in then.classes if name not in now.classes]
    told = [f"{what} {', '.join(names)}" for what, names in (("new classes", new), ("missing classes", gone)) if names]
    number, before = (each.train_examples + each.test_examples for each in (now, then))
    told += [f"{number:,} images, not {before:,}"] if number != before else []
    return "; ".join(told) or f"some of the {number:,} images were changed, renamed or moved"


def _require_epochs(directory: Path, settings: Config, recorded: Recorded) -> None:
    """There must be training left to do, or none at all; and where there is, something to go on from."""
    epochs = settings.train.epochs
    if recorded.last is None and read_status(directory)["state"] == "finished":
        raise CheckpointError(f"{_finished(directory)} It has no checkpoint to train it longer from.")
    step = 0 if recorded.last is None else recorded.last["step"]
    if epochs < recorded.epochs + (step > 0):
        done = f"{recorded.epochs} epochs" + (f" and {step} steps of the next" if step else "")
        raise ConfigError(f"train.epochs={epochs}: {directory} has finished {done}. It can only become more.")


def _finished(directory: Path) -> str:
    """That the run is finished, and how it ended."""
    try:
        accuracy = f" with a test accuracy of {read_json(directory / 'result.json')['test_accuracy']:.4f}"
    except (OSError, ValueError, KeyError, TypeError):
        accuracy = ""
    return f"{os.path.relpath(directory)} is finished{accuracy}."


def _go_on(
    opened: RunDirectory, settings: Config, recorded: Recorded, changes: Mapping[str, Any], watch: Stopwatch
) -> float:
    with opened.recorded_status():
        opened.set_status("running")
        opened.write_text("config.yaml", to_yaml(settings))
        for problem in recorded.problems:
            log.warning(problem)
        if recorded.last is None:
            log.info("There is no checkpoint yet: training begins anew.")
            return train.run(settings, opened, watch).value
        return train.run(settings, opened, watch, train.Earlier(recorded.last, recorded.best, changes)).value
