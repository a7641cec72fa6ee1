"""The command line: argv to a verb, errors to a message and an exit code. No other part imports Hydra."""

import argparse
import gc
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

import cnnbench
import cnnbench.runs.supported_systems  # first: it ends the program on a system without file locks
from cnnbench import config
from cnnbench.cli.composing import (
    RunDirectoryCallback,
    check,
    compose,
    conf_folder,
    log_to,
    log_to_file,
    output_directory,
    sweeps,
)
from cnnbench.cli.looking import Flags, benchmark, gradcheck, summary
from cnnbench.cli.other_libraries import silence_libraries
from cnnbench.cli.overrides import Consent, quoted, read_jobs_file
from cnnbench.cli.plotting import plotted
from cnnbench.cli.reporting import report
from cnnbench.cli.streams import SIGPIPE_CODE, discard_unwritten, open_missing_streams, shield_stream
from cnnbench.cli.sweeping import Sweep, SweepCallback, plan
from cnnbench.cli.third_party_caches import place_third_party_caches
from cnnbench.errors import ConfigError, did_you_mean
from cnnbench.runs.directory import STATUS, claim
from cnnbench.runs.openmp_env import limit_spinning
from cnnbench.runs.processes import processes
from cnnbench.runs.reading import find_runs, of_this_launch
from cnnbench.runs.stopping import end_on_signals
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.runs.sweep import recorded_jobs

__all__ = ["RunDirectoryCallback", "SweepCallback", "main"]

SIGINT_CODE = 130

PRINTING_VERBS = ("summary", "gradcheck", "predict", "models", "data", "doctor")
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
            return _follow(ours.rank) if together else 0
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
                from cnnbench.commands.together import dismiss

                dismiss()


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


def _follow(rank: int) -> int:
    """Take part in what the first process trains; its errors are told by it, here those of this process alone."""
    try:
        from cnnbench.commands.together import follow

        return follow()
    except Exception as error:
        return report(error, f"cnnbench (process {rank})")


def _is_word(argument: str) -> bool:
    """Whether an argument is a bare word, meant as a verb: neither a flag nor a Hydra override, if half of one."""
    return not any(sign in argument for sign in "=.@/") and argument[:1] not in ("-", "~", "+")


def _train(arguments: list[str]) -> int:
    """Train: one run, or the jobs of a sweep."""
    parser = Flags()
    parser.add_argument("--jobs-file", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--plot", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    if not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.intersection(rest):
        if options.jobs_file or options.dry_run:
            raise ConfigError("--jobs-file and --dry-run are for a sweep: add -m.")
        return compose("train", rest, partial(_train_one, plot=options.plot))
    if not any(each.startswith("sweep=") for each in rest):  # by default it is the time that names a sweep
        earlier = of_this_launch(Path("outputs/sweeps/*/*"))[-1:]
        rest += [config.format_override("sweep", job.parent.name) for job in earlier]
    pairs = [[]] if options.jobs_file is None else read_jobs_file(options.jobs_file)
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
    watch = Stopwatch(time.perf_counter() if sweeps() else cnnbench.STARTED)
    directory = output_directory()
    run = claim(directory) if sweeps() else RunDirectoryCallback.claimed
    if run is None:
        settings = config.load(config.to_plain(composed))
        from cnnbench.commands import resume

        with _seen_off(directory, settings, plot):
            return resume.repeat(directory, settings, watch)
    with run.recorded_status():
        settings = config.load(config.to_plain(composed))
        run.write_text("config.yaml", config.to_yaml(settings))  # from here on the run can go on, whatever happens
        check(settings)
        from cnnbench.commands import train

        with _seen_off(directory, settings, plot):
            return train.run(settings, run, watch).value


@contextmanager
def _seen_off(directory: Path, settings: config.Config, plot: bool) -> Iterator[None]:
    """What is shown when the run in the block has ended: its curves, and how to go on, unless a sweep tells that."""
    from cnnbench.commands import resume

    told = _told_how_to_go_on(lambda: resume.command(directory, settings), on_terminal=not sweeps())
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
    parser = argparse.ArgumentParser(
        prog="cnnbench resume",
        description="Go on with a training run from its last checkpoint. It ends with the numbers of a run that was "
        "never interrupted. Given the directory of a sweep, go on with every run in it that is not finished.",
        epilog="Example: cnnbench resume outputs/lenet-fashion_mnist-28px/2026-11-24_10-00-00 train.epochs=20",
    )
    parser.add_argument("directory", type=Path, help="a run or sweep directory, such as those under outputs/")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help=f"change {', '.join(config.RESUME_OVERRIDES)}")
    parser.add_argument("--allow-custom-model", action="store_true", help="let it run a network that is not cnnbench's")
    parser.add_argument("--config-dir", metavar="DIR", help="of groups of your own, for a sweep that was given one")
    parser.add_argument("--plot", action="store_true", help="at the end draw accuracy and loss on the terminal")
    options = parser.parse_intermixed_args(arguments)
    recorded = {} if (options.directory / STATUS).exists() else recorded_jobs(options.directory)
    jobs = {name: config.quote_texts(overrides) for name, overrides in recorded.items()}
    launcher = [word for word in options.changes if jobs and word.startswith(("hydra/launcher=", "hydra.launcher."))]
    given = [word for word in options.changes if word not in launcher]
    changes = config.parse_changes(given, config.RESUME_OVERRIDES, "in a run that goes on")
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
        from cnnbench.commands import resume

        watch = Stopwatch(time.perf_counter())
        try:
            told = _told_how_to_go_on(lambda: shlex.join([*processes().program(), *sys.argv[1:]]))
            with told, plotted(directory, options.plot):
                resume.run(directory, changes, options.allow_custom_model, watch, partial(log_to, directory))
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
    "gradcheck": gradcheck,
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
