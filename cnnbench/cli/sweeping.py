"""Sweeps (-m): which jobs there are, which of them Hydra's launcher is given, and how they are ended together."""

import os
import re
import shlex
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf

from cnnbench import config
from cnnbench.cli.composing import without_hydra
from cnnbench.cli.remembering import remember_composed
from cnnbench.cli.reporting import report
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import STATUS, job_directory_name
from cnnbench.runs.processes import processes
from cnnbench.runs.reading import read_accuracy, read_status, read_text
from cnnbench.runs.sweep import Jobs, add_jobs, allow, stop

__all__ = ["Sweep", "SweepCallback", "quoted", "read_pairs", "require_harmless"]

MOST_JOBS = 10_000  # of a sweep
HERE, JOBLIB = "basic", "joblib"  # hydra/launcher

Overrides = list[str]


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
            _check_number_of_jobs(_written(config.hydra.overrides.task), pairs)
            if self.sweep is not None:
                self.sweep.begin(config)
            if config.hydra.runtime.choices["hydra/launcher"] == "basic":  # others compose in processes of their own
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
        instead: Callable[["Sweep"], None] | None = None,
    ) -> None:
        """Each job has the overrides of one of `pairs`, or is one of those `recorded` by an earlier command.

        `command` is what the user typed; `instead` is called instead of launching the jobs.
        """
        self.command = list(command)
        self.pairs = pairs
        self.recorded = recorded
        self.instead = instead
        self.launched = False
        self._restore: Callable[[], None] = lambda: None
        self.directory: Path | None = None
        self.jobs: dict[str, Overrides] = {}

    def begin(self, composed: DictConfig) -> None:
        """Learn what the command line means, from the configuration that all jobs share; tell Hydra's sweeper."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # Hydra has executed it anew by now

        self._combinations = BasicSweeper.split_arguments
        self._restore = partial(setattr, BasicSweeper, "split_arguments", staticmethod(BasicSweeper.split_arguments))
        BasicSweeper.split_arguments = staticmethod(self._batches)  # type: ignore[method-assign]
        self.composed = composed
        self.directory = Path(composed.hydra.sweep.dir)
        # then only Hydra knows where jobs are, and perhaps by their number
        self.renamed = any(each.startswith("hydra.sweep.subdir=") for each in _written(composed.hydra.overrides.hydra))
        self.launcher = str(composed.hydra.runtime.choices["hydra/launcher"])
        self.named = (
            []
            if self.recorded or any(word.startswith("sweep=") for word in self.command)
            else [f"sweep={composed.sweep}"]
        )

    @property
    def to_go_on(self) -> str:
        """What to tell whoever ended the command before its jobs."""
        if self.launcher not in (HERE, JOBLIB):
            return f"Jobs that are submitted go on: cnnbench report {self.directory} shows how far they are."
        return f"To go on: {shlex.join([*processes().program(), *self.command, *self.named])}"

    @contextmanager
    def directing_hydra(self) -> Iterator[None]:
        """While the block lasts, Hydra's sweeper runs the jobs of this sweep that are not finished."""
        SweepCallback.sweep = self
        try:
            with self._ended_together():
                yield
        finally:
            self._restore()
            SweepCallback.sweep = None

    def compose(self, overrides: Sequence[str]) -> config.Config:
        """The configuration of a job.

        Raises:
            ConfigError: a value is not what it may be.
        """
        loader = GlobalHydra.instance().config_loader()
        return config.load(without_hydra(loader.load_sweep_config(self.composed, list(overrides))))

    def _batches(self, overrides: list[Override], max_batch_size: int | None) -> list[list[Overrides]]:
        """The jobs to run, in place of Hydra's own list of all."""
        assert self.directory is not None
        jobs = self._list(overrides) if self.recorded is None else self.recorded
        self.jobs = {_directory_name(each): list(each) for each in jobs}
        if self.instead is not None:
            self.instead(self)
            return []
        if not self.renamed:
            add_jobs(self.directory, {name: [*overrides, *self.named] for name, overrides in self.jobs.items()})
        allow(self.directory)
        self.launched = True
        waiting = [each for name, each in self.jobs.items() if self.renamed or not self.is_finished(name)]
        if len(waiting) < len(self.jobs):
            print(f"{len(self.jobs) - len(waiting):,} of {len(self.jobs):,} jobs are finished already.")
        size = max_batch_size or max(1, len(waiting))
        return [waiting[first : first + size] for first in range(0, len(waiting), size)]

    def _list(self, overrides: list[Override]) -> list[Overrides]:
        """Every combination of values, with each of the pairs."""
        (combinations,) = self._combinations(overrides, None)
        given = {override.get_key_element() for override in overrides}
        for pair in self.pairs:
            twice = given.intersection(each.partition("=")[0] for each in pair)
            if twice:
                raise ConfigError(f"{min(twice)} is given by the pairs and on the command line. Leave one out.")
        return [[*pair, *combination] for pair in self.pairs for combination in combinations]

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
            if signals or self.directory is None or self.launcher != JOBLIB:
                handlers[number](number, frame)  # a second time: at once
                return
            signals.append(number)
            os.write(2, b"\ncnnbench: stopping all jobs, with a checkpoint of each (once more: at once)\n")
            stop(self.directory)
            for status in self.directory.glob(f"*/{STATUS}"):
                _end_job(status.parent)

        handlers: dict[int, Any] = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except Exception as error:
            if not signals:  # else it is what joblib says of processes that ended
                raise _explained(error) from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if signals:
            handlers[signals[0]](signals[0], None)


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
        if status["state"] == "running" and status["host"] == socket.gethostname():
            os.kill(int(status["pid"]), signal.SIGTERM)


def _written(overrides: ListConfig) -> Overrides:
    """Overrides as they were written, with their interpolations."""
    return [str(each) for each in OmegaConf.to_container(overrides, resolve=False) or ()]


def _directory_name(overrides: Sequence[str]) -> str:
    """The name of a job's directory, as hydra.sweep.subdir in conf/train.yaml has it."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return job_directory_name(get_overrides_dirname(parsed, list(config.NOT_OF_THE_JOB), ",", "="))


def read_pairs(path: Path) -> list[Overrides]:
    """The overrides of each job, from a file with a line for each, as typed on a command line.

    Raises:
        ConfigError: it cannot be read, or a line has something else.
    """
    try:
        lines = path.read_text().splitlines()
        pairs = [shlex.split(line, comments=True) for line in lines]
    except (OSError, ValueError) as error:
        raise ConfigError(f"--pairs {path} cannot be read: {error}.") from error
    for number, pair in enumerate(pairs, start=1):
        for word in pair:
            if "=" not in word or word.startswith("-"):
                raise ConfigError(
                    f"{path}, line {number}: '{word}' is not an override. Each line is a job, as on the command line: "
                    "optimizer.lr=0.1 train.batch_size=64"
                )
    pairs = [pair for pair in pairs if pair]
    if not pairs:
        raise ConfigError(f"{path} has no line with overrides, such as: optimizer.lr=0.1 train.batch_size=64")
    return pairs


def require_harmless(directory: Path, jobs: Jobs, given: Sequence[str], allow_custom_model: bool) -> None:
    """Check that a sweep which may be anyone's says what to train with and nothing else.

    Raises:
        ConfigError: it would run code, look into this machine, write elsewhere, or leads out of its directory.
    """
    for name, overrides in jobs.items():
        if (directory / name).is_symlink():
            raise ConfigError(f"{directory / name} is a link, and is not followed.")
        for override in overrides:
            key, _, value = override.lstrip("+~").partition("=")
            if re.match(r"hydra\b", key) or re.search(r"\$\{[^}]*:", value):
                raise ConfigError(
                    f"{directory} asks for {override}, which is more than values to train with. Give it yourself."
                )
            if key == "model.name" and ":" in value and not allow_custom_model:
                raise ConfigError(
                    f"{directory} asks for {override}, code that is not cnnbench's. If you trust it: "
                    f"{shlex.join(['cnnbench', 'resume', str(directory), '--allow-custom-model'])}"
                )
            if key == "data.root" and override not in given:
                raise ConfigError(
                    f"{directory} keeps its data in a folder of its own, {override}. If that is yours: "
                    f"{shlex.join(['cnnbench', 'resume', str(directory), override])}"
                )


def quoted(path: Path) -> str:
    """The path as the value of an override."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _check_number_of_jobs(overrides: Overrides, jobs: int) -> None:
    for override in OverridesParser.create().parse_overrides(overrides):
        match override.value():
            case ChoiceSweep() as choices:
                jobs *= len(choices.list)
            case RangeSweep() as numbers if numbers.step:  # Hydra says what it thinks of a step of 0
                jobs *= sum(1 for _ in islice(numbers.range(), MOST_JOBS + 1))
        if jobs > MOST_JOBS:
            raise ConfigError(
                f"{override.input_line} makes this a sweep of more than {MOST_JOBS:,} jobs, which is too many. "
                "Give fewer values, or several sweeps of the same name (sweep=NAME)."
            )
