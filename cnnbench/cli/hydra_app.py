"""Hydra, by its documented interfaces: compose configurations and run the task function."""

import gc
import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime
from hydra.experimental.callback import Callback
from hydra.types import RunMode, TaskFunction
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from packaging.version import Version

from cnnbench import config
from cnnbench.cli.claimed_run import (
    ClaimedRun,
    claim_run,
    find_earlier_attempt,
    refuse_single_run,
)
from cnnbench.cli.errors import EXPLAINED, as_cnnbench_error, explain_hydra, report
from cnnbench.cli.process_setup import (
    SIGPIPE_CODE,
    place_third_party_caches,
    shield_stream,
    silence_libraries,
)
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import job_directory_name, require_empty
from cnnbench.runs.machine import limit_spinning
from cnnbench.runs.signals import STOP_SIGNALS, TimeLimitReached, end
from cnnbench.runs.sweep import JOBS, is_stopped, stop
from cnnbench.runs.torchrun_env import processes
from cnnbench.sweeps.jobs import SweepRequest
from cnnbench.sweeps.slurm import end_or_restart

__all__ = [
    "HydraJob",
    "RunCallback",
    "compose_config",
    "conf_folder",
    "is_multirun",
    "is_override",
    "run_hydra_app",
    "write_hydra_files",
]

# At import, so that each process in which a launcher starts a job does it before importing PyTorch.
limit_spinning()
place_third_party_caches()
OmegaConf.register_new_resolver("job_directory", job_directory_name, replace=True)

log = logging.getLogger("cnnbench")

# Otherwise the first collections take 0.2 s to look through PyTorch.
freeze_imports = cache(gc.freeze)

# Worker ranks of torchrun compose the same configuration and write no files.
SILENT = (
    *("hydra.run.dir=.", "hydra.sweep.dir=.", "hydra.sweep.subdir=.", "hydra.output_subdir=null"),
    *("hydra/job_logging=none", "hydra/hydra_logging=none"),
)


class JobFailedError(Exception):
    """The message and exit code of a job's error, for a sweeper that searches.

    The error itself would keep the job's memory: its traceback holds the frames.
    """


class HydraJob:
    """The task function. Hydra calls it with each configuration, perhaps in another process.

    `work` is called with the configuration and the claimed run, which is None in a sweep. It
    returns the value of the job, NaN if there is none. Errors are reported, and raised only if the
    sweeper searches for the best values.
    """

    def __init__(
        self,
        work: Callable[[DictConfig, ClaimedRun | None], float | None],
        sweep: SweepRequest | None = None,
    ) -> None:
        self.work = work
        self.sweep = sweep
        self.claimed: ClaimedRun | None = None
        self.exit_codes: list[int] = []  # one for each job of this process that failed
        self.command = list(sys.orig_argv)
        self.launched_by = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """Omit what only the launching process needs: the sweep may list thousands of jobs."""
        sweep = None if self.sweep is None else replace(self.sweep, jobs=None, policy=None)
        return {**vars(self), "sweep": sweep}

    def __call__(self, composed: DictConfig) -> float | None:
        if not is_multirun():
            freeze_imports()
        gc.enable()
        if HydraConfig.get().job.chdir:  # paths are relative to the folder of the command
            os.chdir(HydraConfig.get().runtime.cwd)
        sweep = Path(HydraConfig.get().sweep.dir) if is_multirun() else None
        is_elsewhere = os.getpid() != self.launched_by
        if is_elsewhere:
            silence_libraries()
            sys.orig_argv[:] = self.command  # the run records the command
            for name in ("stdout", "stderr"):
                shield_stream(name, lossy=True)
        choices = HydraConfig.get().runtime.choices
        is_parallel = is_elsewhere and choices["hydra/launcher"] == "joblib"
        if is_parallel:
            _configure_parallel_job()
        progress = None if self.sweep is None else self.sweep.progress
        if sweep is not None and progress is not None and not is_stopped(sweep):
            progress.log(HydraConfig.get().job.num)
        failed: JobFailedError | None = None
        try:
            return self.work(composed, self.claimed)
        except BrokenPipeError:  # the reader of a command that only prints has ended
            self.exit_codes.append(SIGPIPE_CODE)
        except TimeLimitReached as limit:
            return float(limit.history.value)
        except (KeyboardInterrupt, SystemExit) as ending:
            if not is_parallel:
                end_or_restart(ending)
            log.info("Interrupted.")
        except Exception as error:
            self.exit_codes.append(report(error))  # the other jobs of a sweep still run
            if sweep is not None and composed.get("sweep_on_error") == "stop":
                stop(sweep)
            if choices["hydra/sweeper"] not in ("cnnbench", "basic"):
                failed = JobFailedError(str(error), self.exit_codes[-1])
        if failed is not None:
            raise failed
        return math.nan


def _configure_parallel_job() -> None:
    """Hide the bars of a parallel job, and print its number in front of each line."""
    # The process that waits for the jobs ends them by SIGTERM. Each has its limit of CPU time.
    for number in (signal.SIGINT, *STOP_SIGNALS):
        ends_job = number in (signal.SIGTERM, signal.SIGXCPU)
        signal.signal(number, end if ends_job else signal.SIG_IGN)
    _end_with_parent()
    os.environ["TQDM_DISABLE"] = "1"
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(logging.Formatter(f"#{HydraConfig.get().job.num} %(message)s"))


@cache  # a process of joblib runs several jobs
def _end_with_parent() -> None:
    """End this process by SIGTERM soon after its parent ends, even if the parent is killed."""
    parent = os.getppid()

    def watch() -> None:
        while True:  # the first SIGTERM may end only a job, the next one ends the waiting process
            time.sleep(1)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def run_hydra_app(config_name: str, arguments: Sequence[str], job: HydraJob) -> int:
    """Let Hydra compose the configuration of each job and call `job`; return the exit code.

    Raises:
        ConfigError: an argument is wrong, or Hydra fails.
    """
    words = sorted(arguments, key=is_override)  # argparse fails on a flag between overrides
    if processes().several:
        _check_torchrun(words)
    if processes().rank > 0:
        logging_groups = ("hydra/job_logging=", "hydra/hydra_logging=")
        words = [word for word in words if not word.startswith(logging_groups)] + list(SILENT)
    sys.argv[1:] = config.quote_texts(words)
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    gc.disable()  # composing and importing leave no garbage; searching costs 1/8 of their time
    try:
        hydra.main(config_path=str(conf_folder()), config_name=config_name, version_base="1.3")(
            job
        )()
    except JobFailedError as failed:
        return int(failed.args[1])
    except Exception as error:
        raise _explain(error, job) from error.__cause__
    finally:
        gc.enable()
        os.environ["HYDRA_FULL_ERROR"] = full_error
    if job.sweep is not None and job.sweep.exit_code is not None:
        return job.sweep.exit_code
    return job.exit_codes[0] if job.exit_codes else 0


def _check_torchrun(words: Sequence[str]) -> None:
    """Refuse sweepers and launchers whose jobs the ranks cannot run in the same order."""
    for word in words:
        key, _, name = word.partition("=")
        if key == "hydra/launcher" and name != "basic":
            raise ConfigError(
                "Under torchrun the processes train each job together: leave hydra/launcher out."
            )
        if key == "hydra/sweeper" and name not in ("cnnbench", "basic"):
            raise ConfigError(
                f"{word} cannot search under torchrun, where each process would search by itself. "
                "Start it without torchrun, or leave hydra/sweeper out."
            )


def _explain(error: Exception, job: HydraJob) -> Exception:
    """Return an error that the user can fix for an error of Hydra, a launcher or a sweeper."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    module = str(innermost.f_globals["__name__"]).partition(".")[0]
    if isinstance(error, EXPLAINED) or module in ("cnnbench", "torch"):
        return error  # unless it is explained, it is a bug
    if isinstance(error.__cause__, OSError):  # train.log cannot be opened
        return error.__cause__
    if type(error).__module__.startswith("submitit."):
        hint = "Submitted jobs still run, but cnnbench does not wait for them: see squeue."
        return ConfigError(f"submitit: {error}\n{hint}")
    if isinstance(error, UnicodeDecodeError):
        return ConfigError("A configuration file is not UTF-8 text.")
    reason = str(error) or type(error).__name__
    if module == "submitit":
        return ConfigError(f"submitit: {reason}")
    if job.exit_codes:  # an error of a sweeper, such as Optuna's if no trial has a value
        return ConfigError(f"The sweeper ends, as jobs have failed: {reason}")
    if module in ("hydra", "omegaconf", "antlr4"):
        return ConfigError(explain_hydra(reason))
    return ConfigError(f"This command line cannot be run: {reason}")


def is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def compose_config(overrides: Sequence[str], config_name: str = "train") -> DictConfig:
    """Compose the configuration of one run with Hydra's settings, as the command line does.

    If the caller is a Hydra application itself, its Hydra is restored.

    Raises:
        ConfigError: an override or a choice is wrong. The message is that of the command line.
    """
    app, base = GlobalHydra.instance().hydra, VersionBase.instance().getbase()
    name = str(JobRuntime.instance().get("name"))
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf_folder()), name, version_base="1.3"):
            words = config.quote_texts(overrides)
            return hydra.compose(config_name, words, return_hydra_config=True)
    except Exception as error:
        known = as_cnnbench_error(error)
        raise known or ConfigError(explain_hydra(str(error))) from error
    finally:
        if app is not None:
            GlobalHydra.instance().initialize(app)
        if isinstance(base, Version):
            VersionBase.instance().setbase(base)


class RunCallback(Callback):
    """The callback that claims a run directory, checks that of a sweep and frees memory.

    Hydra turns an Exception of a callback into a warning, so errors are raised as SystemExit.
    """

    _claimed: ClaimedRun | None = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if processes().rank > 0:
            return
        name = config.hydra.job.config_name
        command = name if name in ("benchmark", "lr-find") else "train"
        try:
            if command == "train":
                refuse_single_run(config)
            earlier = find_earlier_attempt(config)
            self._claimed = earlier or claim_run(config, command=command, announce=True)
        except Exception as error:
            raise SystemExit(report(error)) from error
        if self._claimed.finished:
            log.info(self._claimed.finished)
            raise SystemExit(0)
        with read_write(config), open_dict(config):
            config.hydra.run.dir = str(self._claimed.directory)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        is_known = config.hydra.runtime.choices["hydra/sweeper"] in ("cnnbench", "basic")
        if processes().rank > 0 or not is_known:  # other sweepers write other files there
            return
        try:
            require_empty(Path(config.hydra.sweep.dir), JOBS, "multirun.yaml")
        except Exception as error:
            raise SystemExit(report(error)) from error

    def on_job_start(
        self, config: DictConfig, *, task_function: TaskFunction, **kwargs: Any
    ) -> None:
        if isinstance(task_function, HydraJob):
            task_function.claimed = self._claimed

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Drop the job's configuration of 1 MiB, which Hydra keeps to the end of a sweep."""
        job_return.cfg = job_return.hydra_cfg = None


def write_hydra_files(composed: DictConfig, directory: Path) -> None:
    """Write the files into .hydra/ of a run directory that Hydra writes for a command line."""
    parts = {
        "config.yaml": config.without_hydra(composed),
        "hydra.yaml": OmegaConf.masked_copy(composed, "hydra"),
        "overrides.yaml": composed.hydra.overrides.task,
    }
    folder = directory / ".hydra"
    folder.mkdir(exist_ok=True)
    for name, part in parts.items():
        (folder / name).write_text(OmegaConf.to_yaml(part), encoding="utf-8")


def conf_folder() -> Path:
    """Return the folder conf/: in the package of a wheel, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def is_multirun() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN
