"""Sweeps (-m): which jobs there are, which of them Hydra's launcher is given, and how they are ended together."""

import os
import shlex
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, NoReturn

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from cnnbench import config
from cnnbench.cli.overrides import Consent, Overrides, as_written, check_number_of_jobs, directory_name, parse_texts
from cnnbench.cli.remembering import remember_composed
from cnnbench.cli.reporting import report
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import STATUS
from cnnbench.runs.processes import processes
from cnnbench.runs.reading import read_accuracy, read_status, read_text
from cnnbench.runs.records import Record
from cnnbench.runs.stopping import SIGTERM_CODE, STOP_SIGNALS, print_from_handler
from cnnbench.runs.sweep import add_jobs, allow, stop

__all__ = ["Sweep", "SweepCallback", "plan"]

HERE, JOBLIB = "basic", "joblib"  # hydra/launcher


class SweepCallback(Callback):
    """Hydra calls it when a sweep is composed, before any job is listed."""

    sweep: ClassVar["Sweep | None"] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a sweep of too many jobs: Hydra lists all before the first, until the memory is full.

        Hydra turns an Exception of a callback into a warning, so errors leave as SystemExit.
        """
        try:
            pairs = 1 if self.sweep is None else len(self.sweep.pairs)
            if self.sweep is None and config.hydra.runtime.choices["hydra/launcher"] != HERE:
                raise ConfigError(
                    "cnnbench benchmark measures one network after another: side by side they would take each other's "
                    "time. Leave hydra/launcher out."
                )
            check_number_of_jobs([*_params(config), *as_written(config.hydra.overrides.task)], pairs)
            if self.sweep is not None:
                self.sweep.begin(config)
            if config.hydra.runtime.choices["hydra/launcher"] == HERE:  # others compose in processes of their own
                remember_composed(GlobalHydra.instance().config_loader())
        except Exception as error:
            raise SystemExit(report(error)) from error

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Let go of the job's configuration: Hydra keeps what a job returns to the end of the sweep, 1 MiB of each."""
        job_return.cfg = job_return.hydra_cfg = None


class Sweep:
    """The jobs of one command, from the list of them to the end of the last."""

    def __init__(
        self,
        command: Sequence[str],
        pairs: Sequence[Sequence[str]] = ((),),
        recorded: Sequence[Overrides] | None = None,
        consent: Consent | None = None,
        instead: Callable[["Sweep"], None] | None = None,
    ) -> None:
        """Each job has the overrides of one of `pairs`, or is one of those `recorded`, as far as there is `consent`.

        `command` is what the user typed; `instead` is called instead of launching the jobs.
        """
        self.command = list(command)
        self.pairs = pairs
        self.recorded = recorded
        self.consent = consent
        self.instead = instead
        self.launched = False
        self._restore = ExitStack()
        self.directory: Path | None = None
        self.jobs: dict[str, Overrides] = {}

    def begin(self, composed: DictConfig) -> None:
        """Learn what the command line means, from the configuration that all jobs share; tell Hydra's sweeper."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # Hydra has executed it anew by now

        lists, validates = BasicSweeper.split_arguments, BasicSweeper.validate_batch_is_legal

        def validate_and_record(sweeper: Any, batch: Sequence[Sequence[str]]) -> None:
            validates(sweeper, batch)
            self._record()

        self._combinations = lists
        self._restore.callback(setattr, BasicSweeper, "split_arguments", staticmethod(lists))
        self._restore.callback(setattr, BasicSweeper, "validate_batch_is_legal", validates)
        BasicSweeper.split_arguments = staticmethod(self._batches)  # type: ignore[method-assign]  # it is how Hydra is told
        BasicSweeper.validate_batch_is_legal = validate_and_record  # type: ignore[method-assign, assignment]  # likewise
        self.composed = composed
        self.directory = Path(composed.hydra.sweep.dir)
        swept = [each for each in as_written(composed.hydra.overrides.task) if each.startswith("sweep=")]
        if any("," in each for each in swept) or not composed.sweep or ".." in Path(composed.sweep).parts:
            raise ConfigError(f"sweep={composed.sweep} is no name for a folder. Give one, such as sweep=rates.")
        # then only Hydra knows where jobs are, and perhaps by their number
        self.renamed = any(
            each.startswith("hydra.sweep.subdir=") for each in as_written(composed.hydra.overrides.hydra)
        )
        self.launcher = str(composed.hydra.runtime.choices["hydra/launcher"])
        self.named = (
            []
            if self.recorded or any(word.startswith("sweep=") for word in self.command)
            else [config.format_override("sweep", composed.sweep)]
        )

    @property
    def to_go_on(self) -> str:
        """What to tell whoever ended the command before its jobs."""
        if self.launcher not in (HERE, JOBLIB):
            return f"Jobs that are submitted go on: cnnbench report {self.directory} shows how far they are."
        return f"To go on: {shlex.join([*processes().program(), *self.command, *self.named])}"

    def exit_code(self, runs: Sequence[Record]) -> int:
        """The exit code of the first of its jobs that failed; `runs` may be those of other commands too."""
        ours = [run for run in runs if self.renamed or run.path.name in self.jobs]
        codes = [run.status.get("exit_code") for run in ours if run.state == "failed"]
        codes += [SIGTERM_CODE for run in ours if run.state == "interrupted"]  # as by a scheduler
        if self.launcher in (HERE, JOBLIB):  # all have ended, so another command has these
            codes += [ConfigError.exit_code for run in ours if run.state == "running"]
        return next((code for code in codes if isinstance(code, int)), 0)

    @contextmanager
    def directing_hydra(self) -> Iterator[None]:
        """While the block lasts, Hydra's sweeper runs the jobs of this sweep that are not finished."""
        SweepCallback.sweep = self
        try:
            with self._ended_together():
                yield
        finally:
            self._restore.close()
            SweepCallback.sweep = None

    def compose(self, overrides: Sequence[str]) -> config.Config:
        """The configuration of a job.

        Raises:
            ConfigError: a value is not what it may be.
        """
        loader = GlobalHydra.instance().config_loader()
        return config.load(config.to_plain(loader.load_sweep_config(self.composed, list(overrides))))

    def _batches(self, overrides: list[Override], max_batch_size: int | None) -> list[list[Overrides]]:
        """The jobs to run, in place of Hydra's own list of all."""
        assert self.directory is not None
        jobs = self._list(overrides) if self.recorded is None else self.recorded
        self.jobs = {directory_name(each): list(each) for each in jobs}
        if len(self.jobs) < len({tuple(sorted(each)) for each in jobs}):
            raise ConfigError(
                "Two jobs would have the same directory, as their values differ in slashes alone, or in what is no "
                "part of a job: sweep and tracker. (Two trackers for each job are tracker=[tensorboard,mlflow].)"
            )
        if self.consent is not None:
            loader = GlobalHydra.instance().config_loader()
            for each in jobs:
                self.consent.check_composed(loader.load_sweep_config(self.composed, list(each)), self.composed)
        if self.instead is not None:
            self.instead(self)
            return []
        waiting = [each for name, each in self.jobs.items() if self.renamed or not self.is_finished(name)]
        if len(waiting) < len(self.jobs):
            print(f"{len(self.jobs) - len(waiting):,} of {len(self.jobs):,} jobs are finished already.")
        if not waiting:
            self._record()
        size = max_batch_size or max(1, len(waiting))
        return [waiting[first : first + size] for first in range(0, len(waiting), size)]

    def _record(self) -> None:
        """Record the jobs of the sweep, once it is known that all can be composed, and let them begin."""
        assert self.directory is not None
        if not self.renamed:
            add_jobs(self.directory, {name: [*overrides, *self.named] for name, overrides in self.jobs.items()})
        allow(self.directory)
        self.launched = True

    def _list(self, overrides: list[Override]) -> list[Overrides]:
        """Every combination of values, with each of the pairs.

        What an experiment proposes to vary, hydra.sweeper.params, gives way to both.
        """
        of_pairs = {each.partition("=")[0] for pair in self.pairs for each in pair}
        proposed = [each.partition("=")[0] for each in _params(self.composed)]  # by an experiment; they come first
        kept = [each for each in overrides[: len(proposed)] if each.get_key_element() not in of_pairs]
        overrides = parse_texts([*kept, *overrides[len(proposed) :]])
        (combinations,) = self._combinations(overrides, None)
        given = {override.get_key_element() for override in overrides}
        for pair in self.pairs:
            twice = given.intersection(each.partition("=")[0] for each in pair)
            if twice:
                raise ConfigError(f"{min(twice)} is given by the jobs file and on the command line. Leave one out.")
        jobs = [[*pair, *combination] for pair in self.pairs for combination in combinations]
        return [config.quote_texts(job) for job in jobs]

    def is_finished(self, name: str) -> bool:
        """Whether a job is, with the values that it has today.

        Raises:
            ConfigError: it is finished with other values.
        """
        assert self.directory is not None
        run = self.directory / name
        if not run.exists() or read_status(run)["state"] != "finished" or read_accuracy(run) is None:
            return False
        try:
            recorded = config.parse(read_text(run / "config.yaml"))
        except (OSError, ValueError, ConfigError):
            return False  # the job itself says what is damaged, and mends it
        config.require_same(run, recorded, config.as_dict(self.compose(self.jobs[name])))
        return True

    @contextmanager
    def _ended_together(self) -> Iterator[None]:
        """Jobs in other processes of this machine are ended by a signal to this one, which waits for them."""
        signals: list[int] = []

        def end(number: int, frame: FrameType | None) -> None:
            if signals and number != signal.SIGINT:
                return  # terminals and schedulers repeat theirs
            if signals or self.directory is None or self.launcher != JOBLIB:
                handlers[number](number, frame)  # a second time: at once
                return
            signals.append(number)
            print_from_handler("\ncnnbench: stopping all jobs, with a checkpoint of each (once more: at once)")
            stop(self.directory)
            for status in self.directory.glob(f"*/{STATUS}"):
                if self.renamed or status.parent.name in self.jobs:
                    _end_job(status.parent)

        handlers: dict[int, Any] = {
            number: signal.signal(number, end)
            for number in (signal.SIGINT, *STOP_SIGNALS)
            if callable(signal.getsignal(number))  # nohup and the like have some ignored
        }
        try:
            yield
        except Exception as error:
            if not signals:  # else it is what joblib says of processes that ended
                explained = _explained(error)
                raise explained from (error.__cause__ if explained is error else error)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if signals:
            handlers[signals[0]](signals[0], None)


def plan(sweep: Sweep) -> NoReturn:
    """List the jobs of a sweep and how long they will take, in place of launching them."""
    from cnnbench.commands import plan

    assert sweep.directory is not None
    raise SystemExit(plan.run(sweep.directory, sweep.jobs, sweep.compose, sweep.is_finished))


def _params(composed: DictConfig) -> Overrides:
    """What an experiment proposes to vary, as Hydra's sweeper puts it before the command line."""
    return [f"{key}={values}" for key, values in (composed.hydra.sweeper.params or {}).items()]


def _explained(error: Exception) -> Exception:
    """What joblib says when the system has killed one of its processes, for people; any other error as it is."""
    if type(error.__cause__).__name__ != "TerminatedWorkerError":
        return error
    return ConfigError(
        "A process that ran jobs was killed, as systems do when memory is short; the others were ended with it. "
        "Lower hydra.launcher.n_jobs."
    )


def _end_job(run: Path) -> None:
    """Send SIGTERM to a job that runs on this machine. Where Ctrl-C has reached it already, it ignores that."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        status = read_status(run)
        if status["state"] == "running" and status["host"] == socket.gethostname() and status["pid"] > 1:
            os.kill(status["pid"], signal.SIGTERM)
