"""Check the configuration of a single run and claim its directory."""

import shlex
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from cnnbench import config
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import (
    LOCK,
    STATUS,
    RunDirectory,
    claim_exactly,
    claim_new,
    require_empty,
)
from cnnbench.runs.lock import Lock
from cnnbench.runs.reading import (
    read_accuracy,
    read_config,
    read_status,
    runs_of_this_launch,
)
from cnnbench.runs.torchrun_env import processes

if TYPE_CHECKING:
    from cnnbench.training.preflight import Preflight
    from cnnbench.training.resume import ResumeState

__all__ = ["ClaimedRun", "claim_run", "find_earlier_attempt", "refuse_single_run"]


@dataclass(frozen=True)
class ClaimedRun:
    """A single run: its configuration, and its directory, which no other process may claim.

    `run` is None if torchrun has restarted: then the run in `directory` is to be resumed.
    `resume` is the state of a run that the directory held, and `held` keeps its lock. `finished`
    is a sentence with its result if there is nothing left to train, otherwise "".
    """

    settings: config.Config
    checked: "Preflight | None"
    directory: Path
    run: RunDirectory | None
    resume: "ResumeState | None" = None
    finished: str = ""
    held: ExitStack = field(default_factory=ExitStack)


def claim_run(
    composed: DictConfig,
    directory: Path | None = None,
    command: str = "train",
    *,
    announce: bool = False,
) -> ClaimedRun:
    """Check a configuration, then claim the run directory.

    The directory is `directory` or, if that is None, `hydra.run.dir` of the configuration. If the
    user has named it and it holds a run of the same configuration, that run is to be resumed.
    `command` is recorded in status.json. With `announce`, log the heading of a new run as soon as
    it is known.

    Raises:
        ConfigError: the configuration is wrong, or the directory holds another run or other files,
            or is in use.
        CheckpointError: the checkpoint of the run in the directory is damaged or refused.
    """
    settings = config.load_composed(composed)
    path = directory or Path(composed.hydra.run.dir)
    require_empty(path, STATUS)
    is_named = directory is not None or _is_named(composed)
    if is_named and command == "train" and (path / STATUS).exists():
        return _claim_to_resume(settings, path)
    if announce and command == "train" and not processes().several:  # whose ranks share the CPUs
        # imported here, so that errors before need not wait for it
        from cnnbench.trackers.curves import start_drawing_process

        start_drawing_process()
    from cnnbench.training import preflight  # imports numpy: configuration errors come first

    checked = preflight.check(settings, announce=announce)
    claim = claim_exactly if is_named else claim_new
    run = claim(path, command)
    return ClaimedRun(settings, checked, run.path, run)


def _claim_to_resume(settings: config.Config, directory: Path) -> ClaimedRun:
    """Lock the directory of a run that ended, to resume it with the same configuration."""
    status = read_status(directory)
    if status["state"] == "running" and Lock(directory / LOCK).is_held() is None:
        resume = config.join_words(["cnnbench", "resume", str(directory)])
        raise ConfigError(
            f"{directory} is in use, as far as {STATUS} says: by process {status.get('pid')} on "
            f"{status.get('host')}. Its file system has no locks. If that has ended: {resume}"
        )
    # imports PyTorch: the check above needs none
    from cnnbench.training.resume import check_resume, describe_finished, reopen_run

    with ExitStack() as stack:
        run, _, state = stack.enter_context(reopen_run(directory, settings))
        if state.is_finished and read_accuracy(directory) is not None:
            finished = f"{describe_finished(directory)} Nothing to do."
            return ClaimedRun(settings, None, directory, run, state, finished)
        checked = check_resume(directory, settings, state)
        return ClaimedRun(settings, checked, directory, run, state, held=stack.pop_all())


def _is_named(composed: DictConfig) -> bool:
    """Return whether the user has named the directory of a single run."""
    return any(word.startswith("hydra.run.dir=") for word in composed.hydra.overrides.hydra)


def refuse_single_run(composed: DictConfig) -> None:
    """Refuse to train one run of an experiment that compares values.

    Raises:
        ConfigError: the experiment sweeps over keys that the command line does not set.
    """
    overrides: Any = OmegaConf.to_container(composed.hydra.overrides.task)
    override_keys = {word.partition("=")[0].lstrip("+") for word in overrides}
    params = OmegaConf.select(composed, "hydra.sweeper.params")
    swept = set(params) if isinstance(params, DictConfig) else set()
    compared = swept - override_keys - set(config.REPEATED_KEYS)
    if compared:
        keys = " and ".join(sorted(compared))
        command = shlex.join(["cnnbench", "-m", *overrides])
        one_run = "For one run, give a value of each."
        raise ConfigError(f"This is a sweep over {keys}. Add -m: {command}\n{one_run}")


def find_earlier_attempt(composed: DictConfig) -> ClaimedRun | None:
    """Return the run to resume if torchrun has restarted its processes, otherwise None.

    The default name of a run directory holds the time, so the earlier one is found by its
    configuration.
    """
    if not processes().restarts:
        return None
    directory = Path(composed.hydra.run.dir)
    pattern = directory if _is_named(composed) else directory.with_name("*")
    for attempt in reversed(runs_of_this_launch(pattern)):
        settings = config.load_composed(composed)
        wanted = config.job_identity(config.as_dict(settings))
        has_config = (attempt / "config.yaml").exists()
        if not has_config or config.job_identity(read_config(attempt)) == wanted:
            return ClaimedRun(settings, None, attempt, None)
    return None
