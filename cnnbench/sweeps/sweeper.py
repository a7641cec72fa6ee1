"""Run a sweep, from the list of its jobs to the table of results: hydra/sweeper=cnnbench."""

import gc
import itertools
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from omegaconf import OmegaConf, open_dict

from cnnbench import config
from cnnbench.errors import CnnbenchError, ConfigError, format_count
from cnnbench.reports.terminal_table import print_comparison
from cnnbench.runs.reading import read_accuracy, read_config, read_status
from cnnbench.runs.records import read_records
from cnnbench.runs.signals import SIGTERM_CODE, TimeLimitReached
from cnnbench.runs.sweep import add_jobs, allow, recorded_jobs
from cnnbench.runs.torchrun_env import broadcast, processes
from cnnbench.sweeps.jobs import (
    Overrides,
    SweepProgress,
    SweepRequest,
    list_jobs,
    read_jobs_file,
)
from cnnbench.sweeps.signals import stop_jobs_on_signal

if TYPE_CHECKING:
    from hydra_plugins.cnnbench_sweeper import CnnbenchSweeper

__all__ = ["Sweep", "run_sweep"]

JOBLIB = "joblib"
LOCAL = ("basic", JOBLIB)  # launchers that run jobs on this machine and wait for them


def run_sweep(sweeper: "CnnbenchSweeper", arguments: Sequence[str]) -> Sequence[JobReturn]:
    """Run the sweep that a command has requested. See `Sweep.run`."""
    gc.enable()  # composed configurations are in cycles: 1 MiB for each job
    gc.freeze()  # imported modules need no collection
    request = getattr(sweeper.task_function, "sweep", None)
    if not isinstance(request, SweepRequest):
        raise ConfigError("hydra/sweeper=cnnbench is for cnnbench train. Leave it out.")
    return Sweep(sweeper, request).run(arguments)


@dataclass
class Job:
    """A job of a sweep. `settings` is its configuration, or the error of it."""

    overrides: Overrides
    settings: config.Config | ConfigError


class Sweep:
    """The jobs of one command, in the directory of a sweep. Several commands may share it.

    `composed` is the configuration that all jobs share. The keys of `jobs` are the names of their
    directories.
    """

    def __init__(self, sweeper: "CnnbenchSweeper", request: SweepRequest) -> None:
        self.sweeper = sweeper
        self.request = request
        self.composed = sweeper.config
        self.unresolved: Any = OmegaConf.to_container(self.composed, resolve=False)
        self.directory = Path(self.composed.hydra.sweep.dir)
        self.launcher = str(self.composed.hydra.runtime.choices["hydra/launcher"])
        self.jobs: dict[str, Job] = {}
        self.errors: dict[str, CnnbenchError | None] = {}

    def run(self, arguments: Sequence[str]) -> Sequence[JobReturn]:
        """Run the jobs that are not finished, and print the table of all jobs.

        Raises:
            CnnbenchError: the configuration of a job is wrong. No job was started.
            KeyboardInterrupt, SystemExit: a signal came. Jobs on this machine are saved.
        """
        if processes().rank > 0:
            waiting = broadcast(None)
            return self.sweeper.launcher.launch(waiting, 0) if waiting else []
        waiting = broadcast(self._prepare(arguments))
        if not self.request.launched:
            return []
        gc.freeze()  # by now PyTorch is imported too
        try:
            with stop_jobs_on_signal(self.directory, self.jobs, self.launcher == JOBLIB):
                returns = self.sweeper.launcher.launch(waiting, 0) if waiting else []
        except BaseException as error:
            has_begun = any((self.directory / name).exists() for name in self.jobs)
            if has_begun or not isinstance(error, Exception):
                self._print_summary()
                print(self._resume_hint(), file=sys.stderr)
            raise
        if self._print_summary():
            print(self._resume_hint(), file=sys.stderr)
        return returns

    def _prepare(self, arguments: Sequence[str]) -> list[Overrides]:
        """Check all jobs and record the sweep. Return the overrides of the jobs to run."""
        sweeper = self.sweeper
        if processes().several and self.launcher != "basic":
            raise ConfigError(
                "Under torchrun the processes train each job together: leave hydra/launcher out."
            )
        if processes().several and sweeper.dry_run:
            raise ConfigError("--dry-run measures one process. Start it without torchrun.")
        self._check_name()
        jobs = self.request.jobs
        if jobs is None:
            path = sweeper.jobs_file
            lines = [[]] if path is None else read_jobs_file(Path(path))
            loader = sweeper.hydra_context.config_loader
            jobs = list_jobs(arguments, sweeper.params, lines, loader)
        print(f"Checking {format_count(len(jobs), 'job')} ...", flush=True)
        self._compose(jobs)
        if self.request.policy is not None:
            self._refuse_other_names()
        if sweeper.dry_run:
            from cnnbench.sweeps.dry_run import estimate

            self.request.exit_code = estimate(self)
            return []
        self._refuse_wrong_jobs()
        self._claim_name()
        finished = [name for name in self.jobs if self.is_finished(name)]
        if finished:
            print(f"{len(finished):,} of {format_count(len(self.jobs), 'job')} finished already.")
        add_jobs(self.directory, {name: job.overrides for name, job in self.jobs.items()})
        # Hydra's basic sweeper writes this file too.
        OmegaConf.save(self.composed, self.directory / "multirun.yaml")
        allow(self.directory)
        self.request.launched = True
        subdir = self.unresolved["hydra"]["sweep"]["subdir"]
        is_numbered = "hydra.job.num" in subdir or "hydra.job.id" in subdir
        # Directories named by job numbers keep their numbers only if all jobs are launched.
        skipped = set() if is_numbered else set(finished)
        waiting = [job.overrides for name, job in self.jobs.items() if name not in skipped]
        if self.launcher in LOCAL:
            parallel = 1
            if self.launcher == JOBLIB:
                n_jobs = self.composed.hydra.launcher.n_jobs
                parallel = import_module("joblib").effective_n_jobs(n_jobs)
            self.request.progress = SweepProgress(
                len(self.jobs), len(skipped), parallel, time.time()
            )
        return waiting

    def _refuse_other_names(self) -> None:
        """Check that the directories of recorded jobs have the names that this command gives."""
        others = recorded_jobs(self.directory).keys() - self.jobs.keys()
        if any((self.directory / name).exists() for name in others):
            raise ConfigError(
                f"The jobs in {self.directory} are not named by their overrides, as by "
                "hydra.sweep.subdir. Run the original sweep command again."
            )

    def _check_name(self) -> None:
        name, overrides = self.composed.sweep, self.unresolved["hydra"]["overrides"]["task"]
        given = [word for word in overrides if word.lstrip("+").startswith("sweep=")]
        is_swept = any(config.parse_override(word).is_sweep_override() for word in given)
        if is_swept or not isinstance(name, str) or not name or ".." in Path(name).parts:
            wrong = given[-1] if given else f"sweep={name}"
            raise ConfigError(
                f"{wrong} is not the name of a folder. Give one, such as sweep=rates."
            )

    def _claim_name(self) -> None:
        """Create the directory of a sweep that is named by the time. Give its name to all jobs."""
        is_named_by_time = "${now:" in self.unresolved["sweep"]
        if not is_named_by_time or "${sweep}" not in self.unresolved["hydra"]["sweep"]["dir"]:
            return
        name = self.composed.sweep
        for number in itertools.count(2):  # two sweeps may start in the same second
            with suppress(FileExistsError):
                self.directory.mkdir(parents=True)
                break
            self.composed.sweep = f"{name}_{number}"
            self.directory = Path(self.composed.hydra.sweep.dir)
        name_override = config.quote_texts([f"sweep={self.composed.sweep}"])
        for job in self.jobs.values():
            job.overrides += name_override
        if "sweep" not in self.composed.hydra.job.config.override_dirname.exclude_keys:
            jobs = [job.overrides for job in self.jobs.values()]
            self.jobs = {}
            self._compose(jobs)  # the names of the directories have changed

    def _compose(self, jobs: Sequence[Overrides]) -> None:
        """Compose each job, to find the name of its directory and its configuration."""
        loader = self.sweeper.hydra_context.config_loader
        for number, overrides in enumerate(jobs):
            composed = loader.load_sweep_config(self.composed, list(overrides))
            with open_dict(composed):
                composed.hydra.job.num = composed.hydra.job.id = number
            name = str(composed.hydra.sweep.subdir)
            if name in ("", ".", "..") or "/" in name:
                raise ConfigError(
                    f"hydra.sweep.subdir={name} must name one folder in the directory of the sweep."
                )
            if name in self.jobs and sorted(self.jobs[name].overrides) != sorted(overrides):
                other = " ".join(self.jobs[name].overrides)
                raise ConfigError(
                    f"Two jobs would share the directory {name}: {other} "
                    f"and {' '.join(overrides)}. Its name has neither slashes nor the keys of "
                    "hydra.job.config.override_dirname.exclude_keys, such as sweep and tracker. "
                    "(Two trackers for each job are tracker=[tensorboard,mlflow].)"
                )
            try:
                settings: config.Config | ConfigError = config.load_composed(composed)
            except ConfigError as error:
                settings = error
            if self.request.policy is not None and isinstance(settings, config.Config):
                self.request.policy.check_job(composed, self.composed, settings)
            self.jobs[name] = Job(list(overrides), settings)

    def check(self, name: str) -> config.Config:
        """Return the configuration of a job, after all checks that need no data.

        Raises:
            CnnbenchError: the configuration is wrong.
        """
        job = self.jobs[name]
        if isinstance(job.settings, ConfigError):
            raise job.settings
        if self.launcher not in LOCAL:
            return job.settings  # the other machine checks its network and memory
        from cnnbench.training import preflight

        values = config.as_dict(job.settings)
        values["optimizer"] = values["optimizer"]["name"]
        for key in ("seed", "scheduler", "augment", "sweep"):  # preflight does not read these
            del values[key]
        has_weights = any((self.directory / name / "checkpoints").glob("*.pt"))
        key = json.dumps([values, has_weights])
        if key not in self.errors:
            self.errors[key] = None
            try:
                preflight.check(job.settings, starts=not has_weights)
            except CnnbenchError as error:
                self.errors[key] = error
        known_error = self.errors[key]
        if known_error is not None:
            raise known_error
        return job.settings

    def _refuse_wrong_jobs(self) -> None:
        """Raise the errors of all jobs as one error, before the first job begins."""
        jobs_by_message: dict[str, list[Job]] = {}
        error_types = []
        for name, job in self.jobs.items():
            try:
                self.check(name)
            except CnnbenchError as error:
                jobs_by_message.setdefault(str(error), []).append(job)
                error_types.append(type(error))
        if not error_types:
            return
        lines = []
        for message, jobs in jobs_by_message.items():
            count = "The job"
            if len(jobs) > 1:
                count = f"{len(jobs):,} of {len(self.jobs):,} jobs, such as"
            lines += [message, f"  {count} {' '.join(jobs[0].overrides)}"]
        if len(self.jobs) > 1:
            lines.append("No job was started.")
        raise error_types[0]("\n".join(lines))

    def is_finished(self, name: str) -> bool:
        """Return whether a job has finished with the values of its configuration.

        Raises:
            ConfigError: it has finished with other values.
        """
        run, settings = self.directory / name, self.jobs[name].settings
        if not run.exists() or isinstance(settings, ConfigError):
            return False
        if read_status(run)["state"] != "finished" or read_accuracy(run) is None:
            return False
        try:
            recorded = read_config(run)
        except (OSError, ConfigError):
            return False  # the job itself reports and repairs the damage
        config.require_same(run, recorded, config.as_dict(settings))
        return True

    def _print_summary(self) -> bool:
        """Print the table of the sweep, and set the exit code to that of the first failed job.

        Return whether train.max_minutes has stopped a job.
        """
        if self.request.is_reproduction:
            runs = read_records(self.directory)
        else:
            print()
            runs = print_comparison([self.directory])
        runs = [run for run in runs if run.path.name in self.jobs]
        codes = [run.status.get("exit_code") for run in runs if run.state == "failed"]
        stops = [run.status.get("error") for run in runs if run.state == "interrupted"]
        codes += [SIGTERM_CODE for error in stops if error != TimeLimitReached.__name__]
        if self.launcher in LOCAL:  # the jobs have ended, so another command runs these
            codes += [ConfigError.exit_code for run in runs if run.state == "running"]
        self.request.exit_code = next((code for code in codes if isinstance(code, int)), 0)
        return TimeLimitReached.__name__ in stops

    def _resume_hint(self) -> str:
        """Return the command that resumes the sweep or, for submitted jobs, reports on it."""
        if self.launcher not in LOCAL:
            report = config.join_words(["cnnbench", "report", str(self.directory)])
            return f"Submitted jobs keep running. See how far they are: {report}"
        words = [*processes().program(), *self.request.command]
        if not self.request.jobs and not any(word.startswith("sweep=") for word in words):
            words.append(config.format_override("sweep", self.composed.sweep))
        return f"To resume: {config.join_words(words)}"
