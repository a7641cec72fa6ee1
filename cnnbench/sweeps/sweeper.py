"""A sweep, from the list of its jobs to the end of the last: what hydra/sweeper=cnnbench does."""

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
from cnnbench.runs.signals import SIGTERM_CODE
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
LOCAL = (
    "basic",
    JOBLIB,
)  # launchers that run jobs on this machine, and return when they have ended


def run_sweep(sweeper: "CnnbenchSweeper", arguments: Sequence[str]) -> Sequence[JobReturn]:
    """Run a sweep, as the command that made the task function asks. See `Sweep.run`."""
    gc.enable()  # what is composed is in cycles: 1 MiB for each job
    gc.freeze()  # but need not be looked for in what was imported
    request = getattr(sweeper.task_function, "sweep", None)
    if not isinstance(request, SweepRequest):
        raise ConfigError("hydra/sweeper=cnnbench is for cnnbench train. Leave it out.")
    return Sweep(sweeper, request).run(arguments)


@dataclass
class Job:
    """A job of a sweep. `settings` is its configuration, or what is wrong with that."""

    overrides: Overrides
    settings: config.Config | ConfigError


class Sweep:
    """The jobs of one command, in the directory of a sweep that other commands may share.

    `composed` is what all jobs share; `jobs` are known by the names of their directories.
    """

    def __init__(self, sweeper: "CnnbenchSweeper", request: SweepRequest) -> None:
        self.sweeper = sweeper
        self.request = request
        self.composed = sweeper.config
        self.written: Any = OmegaConf.to_container(self.composed, resolve=False)
        self.directory = Path(self.composed.hydra.sweep.dir)
        self.launcher = str(self.composed.hydra.runtime.choices["hydra/launcher"])
        self.jobs: dict[str, Job] = {}
        self.mistakes: dict[str, CnnbenchError | None] = {}

    def run(self, arguments: Sequence[str]) -> Sequence[JobReturn]:
        """Run the jobs that are not finished, and print the table of all.

        Raises:
            CnnbenchError: a job has a mistake. Nothing was started.
            KeyboardInterrupt, SystemExit: a signal; jobs on this machine are saved.
        """
        if processes().rank > 0:
            waiting = broadcast(None)
            return self.sweeper.launcher.launch(waiting, 0) if waiting else []
        waiting = broadcast(self._prepare(arguments))
        if not self.request.launched:
            return []
        gc.freeze()  # likewise, now that PyTorch is imported
        try:
            with stop_jobs_on_signal(self.directory, self.jobs, self.launcher == JOBLIB):
                returns = self.sweeper.launcher.launch(waiting, 0) if waiting else []
        except BaseException as ending:
            begun = any((self.directory / name).exists() for name in self.jobs)
            if begun or not isinstance(ending, Exception):
                self._conclude()
                print(self._resume_hint(), file=sys.stderr)
            raise
        self._conclude()
        return returns

    def _prepare(self, arguments: Sequence[str]) -> list[Overrides]:
        """Return the overrides of the jobs to run, once all jobs are known to be sound."""
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
            jobs = list_jobs(arguments, sweeper.params, lines, sweeper.hydra_context.config_loader)
        print(f"Checking {format_count(len(jobs), 'job')} ...", flush=True)
        self._compose(jobs)
        if self.request.policy is not None:
            self._refuse_other_names()
        if sweeper.dry_run:
            from cnnbench.sweeps.dry_run import estimate

            self.request.exit_code = estimate(self)
            return []
        self._refuse_mistakes()
        self._claim_name()
        finished = [name for name in self.jobs if self.is_finished(name)]
        if finished:
            print(f"{len(finished):,} of {format_count(len(self.jobs), 'job')} finished already.")
        add_jobs(self.directory, {name: job.overrides for name, job in self.jobs.items()})
        OmegaConf.save(
            self.composed, self.directory / "multirun.yaml"
        )  # as Hydra's own sweeper does
        allow(self.directory)
        self.request.launched = True
        subdir = self.written["hydra"]["sweep"]["subdir"]
        is_numbered = "hydra.job.num" in subdir or "hydra.job.id" in subdir
        # directories that have the numbers of jobs are found by launching all in order
        skipped = set() if is_numbered else set(finished)
        waiting = [job.overrides for name, job in self.jobs.items() if name not in skipped]
        if self.launcher in LOCAL:
            parallel = 1
            if self.launcher == JOBLIB:
                n_jobs = self.composed.hydra.launcher.n_jobs
                parallel = import_module("joblib").effective_n_jobs(n_jobs)
            numbers = len(self.jobs), len(skipped), parallel
            self.request.progress = SweepProgress(*numbers, time.time())
        return waiting

    def _refuse_other_names(self) -> None:
        """Check that recorded jobs that have begun are in the directories that they have today."""
        others = recorded_jobs(self.directory).keys() - self.jobs.keys()
        if any((self.directory / name).exists() for name in others):
            raise ConfigError(
                f"The jobs in {self.directory} are not named by their overrides, as by hydra.sweep.subdir. "
                "Run the original sweep command again."
            )

    def _check_name(self) -> None:
        name, overrides = self.composed.sweep, self.written["hydra"]["overrides"]["task"]
        given = [word for word in overrides if word.lstrip("+").startswith("sweep=")]
        is_swept = any(config.parse_override(word).is_sweep_override() for word in given)
        if is_swept or not isinstance(name, str) or not name or ".." in Path(name).parts:
            wrong = (given or [f"sweep={name}"])[-1]
            raise ConfigError(f"{wrong} is no name for a folder. Give one, such as sweep=rates.")

    def _claim_name(self) -> None:
        """Make the directory of a sweep that is named by the time; give its name to all jobs."""
        by_time = "${now:" in self.written["sweep"]
        if not by_time or "${sweep}" not in self.written["hydra"]["sweep"]["dir"]:
            return
        name = self.composed.sweep
        for number in itertools.count(2):  # two may start in the same second
            with suppress(FileExistsError):
                self.directory.mkdir(parents=True)
                break
            self.composed.sweep = f"{name}_{number}"
            self.directory = Path(self.composed.hydra.sweep.dir)
        named = config.quote_texts([f"sweep={self.composed.sweep}"])
        for job in self.jobs.values():
            job.overrides += named
        if "sweep" not in self.composed.hydra.job.config.override_dirname.exclude_keys:
            jobs, self.jobs = list(self.jobs.values()), {}
            self._compose([job.overrides for job in jobs])  # for their new names

    def _compose(self, jobs: Sequence[Overrides]) -> None:
        """Compose each job, for the name of its directory and its configuration."""
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
                raise ConfigError(
                    f"Two jobs would share the directory {name}: {' '.join(self.jobs[name].overrides)} "
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

    def check(self, job: Job) -> config.Config:
        """Return the configuration of a job, checked as far as it can be before data are read.

        Raises:
            CnnbenchError: it has a mistake.
        """
        if isinstance(job.settings, ConfigError):
            raise job.settings
        if self.launcher not in LOCAL:
            return job.settings  # its network and memory are the other machine's to judge
        from cnnbench.training import preflight

        values = config.as_dict(job.settings)
        values["optimizer"] = values["optimizer"]["name"]
        for key in ("seed", "scheduler", "augment", "sweep"):  # preflight does not look at these
            del values[key]
        key = json.dumps(values)
        if key not in self.mistakes:
            self.mistakes[key] = None
            try:
                preflight.check(job.settings)
            except CnnbenchError as error:
                self.mistakes[key] = error
        mistake = self.mistakes[key]
        if mistake is not None:
            raise mistake
        return job.settings

    def _refuse_mistakes(self) -> None:
        """Raise the mistakes of all jobs as one error, before the first job begins."""
        jobs_by_mistake: dict[str, list[Job]] = {}
        codes = []
        for job in self.jobs.values():
            try:
                self.check(job)
            except CnnbenchError as error:
                jobs_by_mistake.setdefault(str(error), []).append(job)
                codes.append(type(error))
        if not codes:
            return
        lines = []
        for message, jobs in jobs_by_mistake.items():
            example = " ".join(jobs[0].overrides)
            count = (
                f"{len(jobs):,} of {len(self.jobs):,} jobs, such as" if len(jobs) > 1 else "The job"
            )
            lines += [message, f"  {count} {example}"]
        if len(self.jobs) > 1:
            lines.append("No job was started.")
        raise codes[0]("\n".join(lines))

    def is_finished(self, name: str) -> bool:
        """Return whether a job has finished, with the values that it has today.

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
            return False  # the job itself says what is damaged, and mends it
        config.require_same(run, recorded, config.as_dict(settings))
        return True

    def _conclude(self) -> None:
        """Print the table of the sweep, and find the exit code of the first job that failed."""
        if self.request.is_reproduction:
            runs = read_records(self.directory)
        else:
            print()
            runs = print_comparison([self.directory])
        ours = [run for run in runs if run.path.name in self.jobs]
        codes = [run.status.get("exit_code") for run in ours if run.state == "failed"]
        codes += [SIGTERM_CODE for run in ours if run.state == "interrupted"]  # as by a scheduler
        if self.launcher in LOCAL:  # all have ended, so another command has these
            codes += [ConfigError.exit_code for run in ours if run.state == "running"]
        self.request.exit_code = next((code for code in codes if isinstance(code, int)), 0)

    def _resume_hint(self) -> str:
        if self.launcher not in LOCAL:
            report = config.join_words(["cnnbench", "report", str(self.directory)])
            return f"Submitted jobs go on. See how far they are: {report}"
        words = [*processes().program(), *self.request.command]
        if not self.request.jobs and not any(word.startswith("sweep=") for word in words):
            words.append(config.format_override("sweep", self.composed.sweep))
        return f"To resume: {config.join_words(words)}"
