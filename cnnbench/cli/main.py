"""The command line: run the command that argv names, print errors and return an exit code."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from importlib import import_module
from pathlib import Path

import cnnbench
import cnnbench.runs.supported_systems  # first: exits on a system without file locks
from cnnbench.cli import compose, lr_find, reproduce
from cnnbench.cli.again import again
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
from cnnbench.cli.quick_exit import QuickExit
from cnnbench.cli.run_argument import locate_run, remove_run_argument
from cnnbench.cli.words import explain_command
from cnnbench.errors import ConfigError
from cnnbench.runs.reading import check_is_run
from cnnbench.runs.signals import STOP_SIGNALS, end_on_signals
from cnnbench.runs.torchrun_env import broadcast, processes, shared_store

__all__ = ["main"]

SIGINT_CODE = 130

TORCHRUN_COMMANDS = ("train", "resume", "again")
RUN_DIRECTORY_COMMANDS = ("evaluate", "predict", "inspect", "export")
PRINTING_COMMANDS = ("summary", "gradcheck", "predict", "models", "data", "doctor")
PRINTING_FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "-V", "--cfg", "-c", "--info", "-i"),
    *("--shell-completion", "-sc", "--dry-run"),
}


def main() -> int:
    """Run the command that sys.argv names; return the exit code.

    Under torchrun each rank runs the same command. Only rank 0 writes files and prints.
    """
    quick_exit = QuickExit()
    try:
        quick_exit.code = _main()
    except SystemExit as ending:
        quick_exit.code = ending.code if isinstance(ending.code, int) else None
        raise
    return quick_exit.code


def _main() -> int:
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
        except BrokenPipeError:  # the reader has ended, as in `cnnbench models | head`
            return SIGPIPE_CODE
        except KeyboardInterrupt:
            print("cnnbench: interrupted", file=sys.stderr)
            return SIGINT_CODE
        except Exception as error:
            ending = _find_interruption(error)
            if ending is None:
                return report(error)
            if isinstance(ending, SystemExit):
                raise ending from None
            print("cnnbench: interrupted", file=sys.stderr)
            return SIGINT_CODE
        finally:
            discard_unwritten()
            if processes().several and command in TORCHRUN_COMMANDS:
                with suppress(Exception):  # worker ranks may have ended already
                    broadcast(None)


def _find_interruption(error: BaseException) -> BaseException | None:
    """Return the signal's exception during which an error arose, or None if there was none.

    A signal may come while OmegaConf builds a node. Its cleanup then fails on what is half built,
    and that error hides the interruption.
    """
    codes = [128 + number for number in STOP_SIGNALS]
    context = error.__context__
    while context is not None:
        is_exit = isinstance(context, SystemExit) and context.code in codes
        if is_exit or isinstance(context, KeyboardInterrupt):
            return context
        context = context.__context__
    return None


def _run(command: str, arguments: list[str]) -> int:
    if " ".join(arguments).startswith(("-sc query=", "--shell-completion query=")):
        # imported here, so that other commands need not wait for it
        from cnnbench.cli.completion import print_completions

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
    """Run the same command as rank 0 without any output: rank 0 prints the same errors."""
    if command not in TORCHRUN_COMMANDS:
        return 0
    for number in (signal.SIGINT, *STOP_SIGNALS):  # before training there is nothing to save
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    logging.disable()
    with (
        Path(os.devnull).open("w") as null,
        redirect_stdout(null),
        redirect_stderr(null),
        suppress(Exception),
    ):
        try:
            _run(command, arguments)
        finally:
            shared_store()  # rank 0, which may hold the store, waits until all ranks have joined
    return 0


def _only_prints(command: str, arguments: list[str]) -> bool:
    """Return whether a command only prints, so that it may end when its reader does."""
    words = {argument.partition("=")[0] for argument in arguments}
    return command in PRINTING_COMMANDS or not words.isdisjoint(PRINTING_FLAGS)


def _is_command_name(argument: str) -> bool:
    """Return whether an argument is a bare word: neither a flag nor a part of an override."""
    return not any(sign in argument for sign in "=.@/") and argument[:1] not in ("-", "~", "+")


def _run_module(command: str, arguments: list[str], needs_conf: bool = False) -> int:
    """Run the module of a command with the options and words of its arguments."""
    options, words = PARSERS[command]().read(arguments)
    options.words = words
    if command in RUN_DIRECTORY_COMMANDS:
        run = options.words.pop(0)
        options.directory, options.rest = locate_run(run), remove_run_argument(run, arguments)
        if command != "export":  # export first checks that its packages are installed
            check_is_run(options.directory, command)  # before PyTorch is imported
    if command == "report":
        options.directories = [locate_run(word) for word in options.words]
    folders = [conf_folder()] if needs_conf else []
    return int(import_module(f"cnnbench.commands.{command}").run(options, *folders) or 0)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": compose.train,
    "resume": compose.resume,
    "again": again,
    "summary": compose.summary,
    "benchmark": compose.benchmark,
    "lr-find": lr_find.run,
    "gradcheck": compose.gradcheck,
    **{name: partial(_run_module, name, needs_conf=True) for name in RUN_DIRECTORY_COMMANDS},
    "report": partial(_run_module, "report"),
    "reproduce": reproduce.run,
    "models": partial(_run_module, "models", needs_conf=True),
    "data": compose.data,
    "doctor": partial(_run_module, "doctor"),
}
