"""The commands that compose a configuration with Hydra, which reads their other flags."""

import argparse
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import cnnbench
from cnnbench import config
from cnnbench.analysis.format import printable
from cnnbench.cli.claimed_run import ClaimedRun
from cnnbench.cli.errors import report
from cnnbench.cli.hydra_app import (
    HydraJob,
    conf_folder,
    is_multirun,
    is_override,
    run_hydra_app,
)
from cnnbench.cli.hydra_options import (
    MULTIRUN,
    VALUES_HELP,
    build_hydra_options,
    refuse_multirun,
)
from cnnbench.cli.options import PARSERS
from cnnbench.cli.run_argument import locate_run, remove_run_argument
from cnnbench.errors import CheckpointError, ConfigError, DivergedError, format_count
from cnnbench.runs.directory import (
    STATUS,
    RunDirectory,
    claim,
    claim_exactly,
    log_to_file,
    resume_command,
)
from cnnbench.runs.reading import find_runs, runs_of_this_launch
from cnnbench.runs.signals import TimeLimitReached
from cnnbench.runs.sweep import is_stopped, recorded_jobs
from cnnbench.runs.torchrun_env import broadcast, one_broadcast, processes
from cnnbench.sweeps.jobs import SweepRequest, list_jobs, quote_path

__all__ = ["benchmark", "data", "gradcheck", "resume", "run_sweep_command", "summary", "train"]

log = logging.getLogger("cnnbench")


def train(arguments: list[str]) -> int:
    """Train: one run, or the jobs of a sweep."""
    options, words = PARSERS["train"]().read(arguments)
    if MULTIRUN.isdisjoint(words):
        if options.jobs_file is not None or options.dry_run:
            raise ConfigError("--jobs-file and --dry-run are for a sweep: add -m.")
        return run_hydra_app("train", words, HydraJob(partial(train_job, plot=options.plot)))
    if not any(word.startswith("sweep=") for word in words):
        # The default name is the time of the first attempt, which torchrun may have restarted.
        attempts = runs_of_this_launch(Path("outputs/sweeps/*/*"))[-1:]
        words += [config.format_override("sweep", job.parent.name) for job in attempts]
    if options.jobs_file is not None:
        words.append(f"hydra.sweeper.jobs_file={config.quote(options.jobs_file)}")
    if options.dry_run:
        words.append("hydra.sweeper.dry_run=true")
    return run_sweep_command(words, SweepRequest(arguments), options.plot)


def run_sweep_command(words: Sequence[str], request: SweepRequest, plot: bool = False) -> int:
    """Let Hydra run a sweep; return the exit code of its first job that failed."""
    return run_hydra_app("train", words, HydraJob(partial(train_job, plot=plot), request))


def train_job(composed: DictConfig, claimed: ClaimedRun | None, plot: bool) -> float:
    """Train a single run or a job of a sweep; resume it if it has begun. Return its value.

    `claimed` is None for a job of a sweep.
    """
    in_sweep = claimed is None
    if processes().rank > 0:
        _train_worker_rank()
        return math.nan
    with one_broadcast():
        started = cnnbench.STARTED
        if claimed is None:
            started, directory = time.perf_counter(), Path(HydraConfig.get().runtime.output_dir)
            settings = config.load_config(config.to_plain(composed))
            import_module("cnnbench.training.run")  # takes seconds: the sweep may be stopped then
            if _is_sweep_stopped():
                return math.nan
            claimed = ClaimedRun(settings, None, directory, claim(directory))
        elif claimed.checked is not None and claimed.checked.is_announced:
            log_to_file(claimed.checked.heading)  # printed before train.log was opened
        from cnnbench.training.run import resume_job, train

        directory, settings = claimed.directory, claimed.settings
        command = partial(resume_command, directory, settings)
        with plot_and_hint_on_exit(directory, command, plot, in_sweep):
            if claimed.run is None:
                return resume_job(directory, settings, started)
            checked, state = claimed.checked, claimed.resume
            return train(settings, claimed.run, state, checked=checked, started=started).value


def _is_sweep_stopped() -> bool:
    """Return whether this is a job of a sweep that was stopped, and log it."""
    stopped = is_multirun() and is_stopped(Path(HydraConfig.get().sweep.dir))
    if stopped:
        log.info("Not begun: the sweep was stopped.")
    return stopped


def _train_worker_rank() -> None:
    """Train the configuration that rank 0 broadcasts, if it does.

    Rank 0 reports errors that all ranks have.

    Raises:
        SystemExit: only this rank has an error; it has been reported.
    """
    values = broadcast()
    if values is None:
        return
    from cnnbench.training.distributed import is_peer_lost
    from cnnbench.training.run import train

    try:
        train(config.load_config(values), None)
    except (CheckpointError, DivergedError, KeyboardInterrupt, SystemExit):
        pass
    except Exception as error:
        if is_peer_lost(error):
            return
        with redirect_stderr(sys.__stderr__):
            code = report(error, f"cnnbench (process {processes().rank})")
        raise SystemExit(code) from error


@contextmanager
def plot_and_hint_on_exit(
    directory: Path, command: Callable[[], str], plot: bool, in_sweep: bool = False
) -> Iterator[None]:
    """Plot the curves after the block; if it was interrupted, print the resume command.

    In a sweep the command is only logged: the sweep prints the command that resumes all jobs.
    """
    ending: BaseException | None = None
    try:
        yield
    except (KeyboardInterrupt, SystemExit, DivergedError) as error:
        ending = error
    if plot:
        # imported here, so that other commands need not wait for it
        from cnnbench.reports.terminal_plot import plot_run

        plot_run(directory, in_sweep)
    if isinstance(ending, (KeyboardInterrupt, SystemExit)):
        line = f"To resume: {command()}"
        log_to_file(line)  # the terminal may be closed
        if not in_sweep:
            print(line, file=sys.stderr)
    if ending is not None:
        raise ending


def resume(arguments: list[str]) -> int:
    """Resume a run, or the unfinished jobs of a sweep."""
    options, words = PARSERS["resume"]().read(arguments)
    options.run, *options.changes = words
    options.directory, options.rest = Path(options.run), remove_run_argument(options.run, arguments)
    jobs = None
    if processes().rank == 0:  # worker ranks may run where the directory does not exist
        options.directory = locate_run(options.run)
        is_run = (options.directory / STATUS).exists()
        jobs = {} if is_run else recorded_jobs(options.directory)
    jobs = broadcast(jobs)
    if jobs is None:  # rank 0 reports an error
        return 0
    return _resume_sweep(options, arguments, jobs) if jobs else _resume_runs(options)


def _resume_sweep(
    options: argparse.Namespace, arguments: Sequence[str], recorded: Mapping[str, Sequence[str]]
) -> int:
    """Run the unfinished jobs of a sweep or, with changes, resume all that have begun."""
    from cnnbench.sweeps.untrusted import UntrustedSweepPolicy

    directory, words = options.directory, options.changes
    jobs = {name: config.quote_texts(overrides) for name, overrides in recorded.items()}
    launcher = [word for word in words if word.startswith(("hydra/launcher=", "hydra.launcher."))]
    options.changes = [word for word in words if word not in launcher]
    trusts, config_dir = options.allow_custom_model, options.config_dir
    policy = UntrustedSweepPolicy(directory, arguments, options.changes, trusts, config_dir)
    if policy.only_confirms(jobs):
        if processes().rank == 0:
            policy.check_overrides(jobs)
        flags = ["-m", *(["--config-dir", config_dir] if config_dir else [])]
        sweep_words = [*flags, f"hydra.sweep.dir={quote_path(directory)}", *launcher]
        request = SweepRequest(["resume", *arguments], list(jobs.values()), policy)
        return run_sweep_command(sweep_words, request, options.plot)
    waiting = [name for name in jobs if not (directory / name / STATUS).exists()]
    if waiting and processes().rank == 0:
        flags = [word for word in options.rest if word not in words]
        begin = [*processes().program(), "resume", str(directory), *flags]
        raise ConfigError(
            f"{directory} has jobs that have not begun: {len(waiting):,} of "
            f"{format_count(len(jobs), 'job')}. They have nothing to change yet. "
            f"Begin them first: {config.join_words(begin)}"
        )
    return _resume_runs(options)


def _resume_runs(options: argparse.Namespace) -> int:
    """Resume a run, or all in a directory; return the exit code of the first that failed."""
    from cnnbench.commands.resume import resume_run

    changes = config.parse_changes(
        options.changes, config.RESUME_OVERRIDES, "in a run that is resumed"
    )
    command = config.join_words(
        [*processes().program(), "resume", str(options.directory), *options.rest]
    )
    codes = []
    if processes().rank > 0:
        for _ in range(broadcast() or 0):
            _train_worker_rank()
        return 0
    directories = find_runs(options.directory)
    broadcast(len(directories))
    trusts = options.allow_custom_model
    for directory in directories:
        started = time.perf_counter()
        print(printable(f"Resuming {directory} ..."), flush=True)
        try:
            with one_broadcast(), plot_and_hint_on_exit(directory, lambda: command, options.plot):
                resume_run(directory, changes, trusts, conf_folder(), started, options.rest)
        except TimeLimitReached:
            continue
        except Exception as error:
            codes.append(report(error))  # then resume the other runs
    return codes[0] if codes else 0


def summary(arguments: list[str]) -> int:
    """Print the layers of a network."""
    options, words = PARSERS["summary"]().read(arguments)
    if options.layer is not None and options.depth is not None:
        raise ConfigError("--layer looks at one layer and --depth folds all: choose one.")
    return _run_on_network("summary", words, options)


def gradcheck(arguments: list[str]) -> int:
    """Compare the reference implementation of a network with PyTorch's."""
    options, words = PARSERS["gradcheck"]().read(arguments)
    return _run_on_network("gradcheck", words, options)


def _run_on_network(command: str, words: Sequence[str], options: argparse.Namespace) -> int:
    """Compose a single configuration and run the module of the command on it."""
    refuse_multirun(command, words)
    codes = []

    def job(composed: DictConfig, claimed: ClaimedRun | None) -> None:
        settings = config.load_composed(composed)
        # imports PyTorch, which takes seconds: configuration errors are reported before
        module = import_module(f"cnnbench.commands.{command}")
        codes.append(module.run(settings, **vars(options)) or 0)

    return run_hydra_app(command, words, HydraJob(job)) or max(codes, default=0)


def data(arguments: list[str]) -> int:
    """List or fetch data sets, or with --show draw the training images of a configuration."""
    parser = PARSERS["data"]()
    has_show = any(word.partition("=")[0] == "--show" for word in arguments)
    if has_show:
        parser.hydra = build_hydra_options()
        parser.word("KEY=VALUE ...", VALUES_HELP)
    options, words = parser.read(arguments)
    if not has_show:
        options.words = words
        import_module("cnnbench.commands.data").run(options)
        return 0
    if not MULTIRUN.isdisjoint(words):
        raise ConfigError("cnnbench data --show draws one batch: -m is for cnnbench train.")
    if options.root is not None:
        words.append(config.format_override("data.root", options.root))

    def job(composed: DictConfig, claimed: ClaimedRun | None) -> None:
        settings = config.load_composed(composed)
        import_module("cnnbench.commands.data").show(settings, options.show)

    return run_hydra_app("summary", words, HydraJob(job))


def benchmark(arguments: list[str]) -> int:
    """Measure networks, one after another."""
    if processes().several:
        raise ConfigError("cnnbench benchmark measures one process. Start it without torchrun.")
    options, words = PARSERS["benchmark"]().read(arguments)
    if any(word.startswith("hydra/launcher=") for word in words):
        raise ConfigError(
            "cnnbench benchmark measures one network after another: side by side they would take "
            "each other's time. Leave hydra/launcher out."
        )
    if not MULTIRUN.isdisjoint(words):
        swept = [word for word in words if is_override(word) and "glob(" not in word]
        list_jobs(swept)  # refuses too many jobs, before Hydra fills the memory with them
    results: list[dict[str, Any]] = []

    def job(composed: DictConfig, claimed: ClaimedRun | None) -> None:
        if _is_sweep_stopped():
            return
        if claimed is None:  # a job of a sweep
            settings = config.load_config(config.to_plain(composed))
            directory = Path(HydraConfig.get().runtime.output_dir)
            run: RunDirectory | None = claim_exactly(directory, "benchmark")
        else:
            settings, run = claimed.settings, claimed.run
        assert run is not None  # only torchrun resumes an earlier attempt
        from cnnbench.training import preflight

        with run.recorded_status():
            if claimed is None:
                preflight.check(settings, announce=True)
            from cnnbench.commands import benchmark  # imports PyTorch, after the heading

            overrides = list(HydraConfig.get().overrides.task)
            results.append(benchmark.run(settings, run, overrides, **vars(options)))

    try:
        return run_hydra_app("benchmark", words, HydraJob(job))
    finally:  # also after an interruption
        if results:
            from cnnbench.commands.benchmark import print_table

            print_table(results)
