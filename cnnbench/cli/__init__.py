"""The command line: argv to a verb, errors to a message and an exit code. No other part imports Hydra."""

import gc
import logging
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

import cnnbench
import cnnbench.runs.supported_systems  # first: it ends the program on a system without file locks
from cnnbench import config
from cnnbench.cli.composing import (
    RunDirectoryCallback,
    compose,
    conf_folder,
    log_to_file,
    output_directory,
    sweeps,
)
from cnnbench.cli.looking import Flags, benchmark, check_by_hand, summary
from cnnbench.cli.other_libraries import silence_libraries
from cnnbench.cli.overrides import Consent, quoted, read_pairs
from cnnbench.cli.plotting import plotted
from cnnbench.cli.reporting import report
from cnnbench.cli.streams import SIGPIPE_CODE, discard_unwritten, open_missing_streams, shield_stream
from cnnbench.cli.sweeping import Sweep, SweepCallback, plan
from cnnbench.cli.third_party_caches import place_third_party_caches
from cnnbench.errors import ConfigError, DivergedError, did_you_mean
from cnnbench.runs.directory import STATUS, claim
from cnnbench.runs.openmp_env import limit_spinning
from cnnbench.runs.processes import processes
from cnnbench.runs.reading import find_runs, of_this_launch
from cnnbench.runs.stopping import STOP_SIGNALS, end_on_signals
from cnnbench.runs.sweep import recorded_jobs

__all__ = ["RunDirectoryCallback", "SweepCallback", "main"]

SIGINT_CODE = 130

PRINTING_VERBS = ("summary", "check", "predict", "models", "data", "doctor")
PRINTING_FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"),
    *("--shell-completion", "-sc", "--dry-run"),
}

# What was imported stays to the end. To look through it again when Python ends takes 0.02 s.
freeze_imports = cache(gc.freeze)

limit_spinning()  # at import: jobs of launchers and cnnbench.api import this module, too, and only then torch
place_third_party_caches()  # likewise


def main() -> int:
    """Run the verb that sys.argv names; returns the exit code.

    Of several processes the first is the command line, and the others take part in what it trains.
    """
    freeze_imports()
    open_missing_streams()
    silence_libraries()
    arguments = sys.argv[1:]
    verb = arguments[0] if arguments and _is_word(arguments[0]) else "train"
    rest = arguments[1:] if verb in arguments[:1] else arguments
    shield_stream("stdout", lossy=not _only_prints(verb, rest))
    shield_stream("stderr", lossy=True)
    ours = processes()
    together = ours.several and verb in ("train", "resume")
    with end_on_signals():
        if ours.rank > 0:
            return _run_worker_rank(ours.rank) if together else 0
        try:
            code = _run(verb, rest)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # nobody reads on, as in `cnnbench models | head`
            return SIGPIPE_CODE
        except KeyboardInterrupt:
            print("cnnbench: interrupted", file=sys.stderr)
            return SIGINT_CODE
        except Exception as error:
            return report(error)
        finally:
            discard_unwritten()
            if together:
                from cnnbench.training.distributed import broadcast

                with suppress(Exception):  # the other processes are gone, or none waits
                    broadcast(None)


def _run(verb: str, arguments: list[str]) -> int:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError("The working folder is gone. Change to another.") from None
    if arguments[:1] == ["--version"]:
        print(f"cnnbench {cnnbench.__version__}")
        return 0
    if verb not in VERBS:
        raise ConfigError(f"There is no verb '{verb}'. {did_you_mean(verb, VERBS)}")
    return VERBS[verb](arguments)


def _only_prints(verb: str, arguments: list[str]) -> bool:
    """Return whether a command has nothing to do but print, so that it may end with its reader."""
    words = {argument.partition("=")[0] for argument in arguments}
    return verb in PRINTING_VERBS or not words.isdisjoint(PRINTING_FLAGS)


def _run_worker_rank(rank: int) -> int:
    """Take part in each run that rank 0 begins, until it has no more or is gone.

    Rank 0 reports what all ranks come to alike; here only errors of this process are.
    """
    for number in (signal.SIGINT, *STOP_SIGNALS):  # before a run there is nothing to save
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    logging.disable()
    try:
        from cnnbench.training.distributed import broadcast, is_peer_lost
        from cnnbench.training.run import train

        while (values := broadcast()) is not None:
            with suppress(DivergedError, KeyboardInterrupt, SystemExit):
                train(config.load(values), None)
    except Exception as error:
        return 0 if is_peer_lost(error) else report(error, f"cnnbench (process {rank})")
    return 0


def _is_word(argument: str) -> bool:
    """Whether an argument is a bare word, meant as a verb: neither a flag nor a Hydra override, if half of one."""
    return not any(sign in argument for sign in "=.@/") and argument[:1] not in ("-", "~", "+")


def _train(arguments: list[str]) -> int:
    """Train: one run, or the jobs of a sweep."""
    parser = Flags()
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--plot", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    if not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.intersection(rest):
        if options.pairs or options.dry_run:
            raise ConfigError("--pairs and --dry-run are for a sweep: add -m.")
        return compose("train", rest, partial(_train_one, plot=options.plot))
    if not any(each.startswith("sweep=") for each in rest):  # by default it is the time that names a sweep
        earlier = of_this_launch(Path("outputs/sweeps/*/*"))[-1:]
        rest += [config.format_override("sweep", job.parent.name) for job in earlier]
    pairs = [[]] if options.pairs is None else read_pairs(options.pairs)
    return _sweep(rest, Sweep(arguments, pairs, instead=plan if options.dry_run else None), options.plot, _compare)


def _sweep(arguments: list[str], sweep: Sweep, plot: bool, tell: Callable[[Sweep], int]) -> int:
    """Run what is left of a sweep, and `tell` how its jobs went."""
    try:
        with sweep.directing_hydra():
            code = compose("train", arguments, partial(_train_one, plot=plot))
    except BaseException:
        if sweep.launched:
            tell(sweep)
            print(sweep.to_go_on, file=sys.stderr)
        raise
    return tell(sweep) or code if sweep.launched else code


def _compare(sweep: Sweep) -> int:
    """Print the table of a sweep, and write it; returns the exit code of the first of its jobs that failed."""
    from cnnbench.commands import report

    assert sweep.directory is not None
    print()
    return sweep.exit_code(report.compare_runs([sweep.directory]))


def _train_one(composed: DictConfig, plot: bool) -> float:
    started = time.perf_counter() if sweeps() else cnnbench.STARTED
    directory = output_directory()
    run = claim(directory) if sweeps() else RunDirectoryCallback.claimed
    checked = None if sweeps() else RunDirectoryCallback.checked
    try:
        settings = config.load(composed)
    except BaseException:
        with nullcontext() if run is None else run.recorded_status():
            raise
    from cnnbench.training.run import resume_job, train

    with _seen_off(directory, settings, plot):
        if run is None:
            return resume_job(directory, settings, started)
        return train(settings, run, checked=checked, started=started).value


@contextmanager
def _seen_off(directory: Path, settings: config.Config, plot: bool) -> Iterator[None]:
    """What is shown when the run in the block has ended: its curves, and how to go on, unless a sweep tells that."""
    from cnnbench.training.resume import resume_command

    told = _told_how_to_go_on(lambda: resume_command(directory, settings), on_terminal=not sweeps())
    with told, plotted(directory, plot, named=sweeps()):
        yield


@contextmanager
def _told_how_to_go_on(command: Callable[[], str], *, on_terminal: bool = True) -> Iterator[None]:
    """If a signal ends the block, log the command that goes on: the terminal may be gone."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        line = f"To go on: {command()}"
        log_to_file(line)
        if on_terminal:
            print(line, file=sys.stderr)
        raise


def _resume(arguments: list[str]) -> int:
    """Go on with what is unfinished in a run directory, or in those of a sweep."""
    from cnnbench.commands import resume

    options = resume.parse_arguments(arguments)
    recorded = {} if (options.directory / STATUS).exists() else recorded_jobs(options.directory)
    jobs = {name: config.quote_texts(overrides) for name, overrides in recorded.items()}
    launcher = [word for word in options.changes if jobs and word.startswith(("hydra/launcher=", "hydra.launcher."))]
    given = [word for word in options.changes if word not in launcher]
    changes = config.parse_changes(given, config.CHANGEABLE, "in a run that goes on")
    consent = Consent(
        options.directory,
        arguments,
        given,
        allow_custom_model=options.allow_custom_model,
        config_dir=options.config_dir,
    )
    if jobs and consent.changes_nothing(jobs):
        consent.check_words(jobs)
        flags = ["-m", *(["--config-dir", options.config_dir] if options.config_dir else [])]
        where = f"hydra.sweep.dir={quoted(options.directory)}"
        sweep = Sweep(["resume", *arguments], recorded=list(jobs.values()), consent=consent)
        return _sweep([*flags, where, *launcher], sweep, options.plot, _compare)
    failures = []
    for directory in find_runs(options.directory):
        started = time.perf_counter()
        try:
            told = _told_how_to_go_on(lambda: shlex.join([*processes().program(), *sys.argv[1:]]))
            with told, plotted(directory, options.plot):
                resume.resume_run(
                    directory,
                    changes,
                    allow_custom_model=options.allow_custom_model,
                    conf=conf_folder(),
                    started=started,
                )
        except Exception as error:
            failures.append(report(error))  # the other jobs of a sweep go on
    return failures[0] if failures else 0


def _reproduce(arguments: list[str]) -> int:
    from cnnbench.cli import reproducing

    return reproducing.run(arguments, lambda words, sweep, tell: _sweep(words, sweep, False, tell))


def _of_a_run(verb: str, arguments: list[str]) -> int:
    """Read a run directory; the verb's module reads its own arguments."""
    is_named = bool(arguments) and not arguments[0].startswith("-")
    if verb != "export" and is_named and not Path(arguments[0]).is_dir():
        find_runs(Path(arguments[0]))  # an error that need not wait for PyTorch
    import_module(f"cnnbench.commands.{verb}").run(arguments, conf_folder())
    return 0


def _models(arguments: list[str]) -> int:
    from cnnbench.commands import models

    models.run(arguments, conf_folder())
    return 0


def _data(arguments: list[str]) -> int:
    from cnnbench.commands import data

    data.run(arguments)
    return 0


def _report(arguments: list[str]) -> int:
    from cnnbench.commands import report

    report.run(arguments)
    return 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "resume": _resume,
    "summary": summary,
    "benchmark": benchmark,
    "check": check_by_hand,
    "evaluate": partial(_of_a_run, "evaluate"),
    "predict": partial(_of_a_run, "predict"),
    "inspect": partial(_of_a_run, "inspect"),
    "export": partial(_of_a_run, "export"),
    "report": _report,
    "reproduce": _reproduce,
    "models": _models,
    "data": _data,
    "doctor": lambda arguments: int(import_module("cnnbench.commands.doctor").run(arguments)),
}
