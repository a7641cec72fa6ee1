"""Commands in the process of the tests, which has all imported: for what a process of its own proves no more of."""

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
    """As ForkServer.run, but a signal would end the tests."""
    with (
        patch.dict(os.environ, clean_environment(folder) | changes, clear=True),
        _working_in(folder),
    ):
        return main(arguments)


def main(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """The command line in the folder and environment of the tests, with `helpers/shortcuts.py`."""
    output, errors = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.callback(_forget_modules_of, Path.cwd(), set(sys.modules))
        stack.callback(_log_only_to, list(logging.getLogger().handlers))
        for (owner, name), value in SHORTCUTS.items():
            stack.enter_context(patch.object(owner, name, value))
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
    """Let the next command import its own module of a name that one in `folder` had."""
    for name in sys.modules.keys() - known:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def _log_only_to(handlers: list[logging.Handler]) -> None:
    """Close what a command has logged to: a later test would write there, too."""
    root = logging.getLogger()
    for each in root.handlers:
        if each not in handlers:
            with suppress(OSError):  # on a full disk, as when Python ends
                each.close()
    root.handlers[:] = handlers


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
