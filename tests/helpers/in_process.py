"""Commands in the process of the tests, which saves the imports of a new process."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

from helpers.command import clean_environment
from helpers.shortcuts import SHORTCUTS

from cnnbench.cli import main as command_line

__all__ = ["main", "run_in_process"]


def run_in_process(
    *arguments: str, folder: Path, **changes: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command as ForkServer.run does, but without faults: a signal would end the tests."""
    with (
        patch.dict(os.environ, clean_environment(folder) | changes, clear=True),
        _working_in(folder),
    ):
        return main(arguments)


def main(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run the command line in the folder and environment of the test, with the SHORTCUTS."""
    output, errors = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.callback(_forget_modules_of, Path.cwd(), set(sys.modules))
        stack.callback(_log_only_to, list(logging.getLogger().handlers))
        for (owner, name), value in SHORTCUTS.items():
            stack.enter_context(patch.object(owner, name, value))
        stack.enter_context(patch.object(sys, "path", list(sys.path)))  # custom models add to it
        for name in ("argv", "orig_argv"):
            stack.enter_context(patch.object(sys, name, ["cnnbench", *arguments]))
        stack.enter_context(redirect_stdout(output))
        stack.enter_context(redirect_stderr(errors))
        try:
            code = command_line.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def _forget_modules_of(folder: Path, known: set[str]) -> None:
    """Remove new modules of `folder`, so that the next command imports its own of the same name."""
    for name in sys.modules.keys() - known:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def _log_only_to(handlers: list[logging.Handler]) -> None:
    """Close the log files of a command, so that later tests do not write to them."""
    root = logging.getLogger()
    for handler in root.handlers:
        if handler not in handlers:
            with suppress(OSError):  # the disk may be full
                handler.close()
    root.handlers[:] = handlers


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
