"""The command line: argv to a command, errors to a message and an exit code."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import cnnbench
import cnnbench.runs.supported_systems  # first: it ends the program on a system without file locks
from cnnbench.cli import compose, reproduce
from cnnbench.cli.errors import report
from cnnbench.cli.help import HELP_FLAGS, print_help
from cnnbench.cli.hydra_app import conf_folder
from cnnbench.cli.options import PARSERS
from cnnbench.cli.process_setup import (
    SIGPIPE_CODE,
    discard_unwritten,
    open_missing_streams,
    shield_stream,
    silence_libraries,
)
from cnnbench.cli.run_argument import locate_run, words_beside
from cnnbench.cli.words import explain_command
from cnnbench.errors import ConfigError
from cnnbench.runs.reading import check_is_run
from cnnbench.runs.signals import STOP_SIGNALS, end_on_signals
from cnnbench.runs.torchrun_env import broadcast, processes, shared_store

__all__ = ["main"]

SIGINT_CODE = 130

TRAINING_COMMANDS = ("train", "resume")  # which take part in torchrun
RUN_DIRECTORY_COMMANDS = ("evaluate", "predict", "inspect", "export")
PRINTING_COMMANDS = ("summary", "gradcheck", "predict", "models", "data", "doctor")
PRINTING_FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "-V", "--cfg", "-c", "--info", "-i"),
    *("--shell-completion", "-sc", "--dry-run"),
}

# What was imported stays to the end. To look through it again when Python ends takes 0.02 s.
freeze_imports = cache(gc.freeze)


def main() -> int:
    """Run the command that sys.argv names; return the exit code.

    Under torchrun each rank runs the same command: rank 0 writes and prints, the others train along.
    """
    freeze_imports()
    open_missing_streams()
    silence_libraries()
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        os.environ["CNNBENCH_DEBUG"] = "1"
    arguments = sys.argv[1:]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    is_named = bool(arguments) and _is_command_name(arguments[0])
    command = arguments[0] if is_named else "train"
    rest = arguments[1:] if is_named else arguments
    if processes().rank > 0:
        return _run_worker_rank(command, rest)
    shield_stream("stdout", lossy=not _only_prints(command, rest))
    shield_stream("stderr", lossy=True)
    with end_on_signals():
        try:
            code = _run(command, rest)
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
            if processes().several and command in TRAINING_COMMANDS:
                with suppress(Exception):  # worker ranks are gone, or none waits
                    broadcast(None)


def _run(command: str, arguments: list[str]) -> int:
    if " ".join(arguments).startswith(("-sc query=", "--shell-completion query=")):
        from cnnbench.cli.completion import (
            print_completions,
        )  # which other commands need not wait for

        print_completions(arguments[1].removeprefix("query="), COMMANDS)
        return 0
    if command == "version" or arguments[:1] in (["--version"], ["-V"]):
        print(f"cnnbench {cnnbench.__version__}")
        return 0
    if command not in COMMANDS:
        raise ConfigError(explain_command(command, arguments, COMMANDS))
    if not HELP_FLAGS.isdisjoint(arguments):
        first = sys.argv[2:3] if sys.argv[1:2] == ["help"] else sys.argv[1:2]
        print_help(command if first == [command] else None, arguments)
        return 0
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError("The working folder is gone. Change to another.") from None
    return COMMANDS[command](arguments)


def _run_worker_rank(command: str, arguments: list[str]) -> int:
    """Run the same command as rank 0 without a word: what fails here fails there, and is reported."""
    if command not in TRAINING_COMMANDS:
        return 0
    for number in (signal.SIGINT, *STOP_SIGNALS):  # before a run there is nothing to save
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    logging.disable()
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        suppress(Exception),
    ):
        try:
            _run(command, arguments)
        finally:
            shared_store()  # rank 0, which may keep the store, waits at its end until all have come
    return 0


def _only_prints(command: str, arguments: list[str]) -> bool:
    """Return whether a command does nothing but print, so that it may end with its reader."""
    words = {argument.partition("=")[0] for argument in arguments}
    return command in PRINTING_COMMANDS or not words.isdisjoint(PRINTING_FLAGS)


def _is_command_name(argument: str) -> bool:
    """Return whether an argument is a bare word: no flag, and no override or half of one."""
    return not any(sign in argument for sign in "=.@/") and argument[:1] not in ("-", "~", "+")


def _run_module(command: str, arguments: list[str], needs_conf: bool = False) -> int:
    """Run a command on its options, whose `words` are those beside them."""
    options, words = PARSERS[command]().read(arguments)
    options.words = words
    if command in RUN_DIRECTORY_COMMANDS:
        run = options.words.pop(0)
        options.directory, options.rest = locate_run(run), words_beside(run, arguments)
        if command != "export":  # which first checks its packages
            check_is_run(options.directory, command)  # an error that need not wait for PyTorch
    if command == "report":
        options.directories = [locate_run(word) for word in options.words]
    more = [conf_folder()] if needs_conf else []
    return int(import_module(f"cnnbench.commands.{command}").run(options, *more) or 0)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": compose.train,
    "resume": compose.resume,
    "summary": compose.summary,
    "benchmark": compose.benchmark,
    "gradcheck": compose.gradcheck,
    **{name: partial(_run_module, name, needs_conf=True) for name in RUN_DIRECTORY_COMMANDS},
    "report": partial(_run_module, "report"),
    "reproduce": reproduce.run,
    "models": partial(_run_module, "models", needs_conf=True),
    "data": partial(_run_module, "data"),
    "doctor": partial(_run_module, "doctor"),
}
