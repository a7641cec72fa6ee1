"""The end of the process: exit codes, output, threads and exit handlers."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers.command import clean_environment
from helpers.paths import ROOT

from cnnbench.cli.quick_exit import is_program

PROGRAM = """
import atexit, sys, threading, time
atexit.register(print, "first handler, which Python calls last")
from cnnbench.cli import main

def models(arguments):
    atexit.register(print, "handler")
    threading.Thread(target=lambda: time.sleep(0.1) or print("thread")).start()
    if arguments:
        raise SystemExit(int(arguments[0]))
    return 3

main.COMMANDS["models"] = models
sys.exit(main.main())
"""


def run_script(
    folder: Path, *arguments: str, name: str = "cnnbench", **changes: str
) -> tuple[int, list[str]]:
    """Run the program as a script of this name; return its exit code and the lines it prints."""
    script = folder / name
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, script, "models", *arguments],
        cwd=folder,
        env=clean_environment(folder) | {"PYTHONPATH": str(ROOT)} | changes,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_command_waits_for_threads_and_handlers_and_skips_the_teardown(tmp_path: Path) -> None:
    assert run_script(tmp_path) == (3, ["thread", "handler"])


def test_exit_code_of_a_signal_stays(tmp_path: Path) -> None:
    assert run_script(tmp_path, "143") == (143, ["thread", "handler"])


@pytest.mark.parametrize(
    ("name", "changes"), [("other", {}), ("cnnbench", {"CUDA_INJECTION64_PATH": "profiler.so"})]
)
def test_other_programs_and_profilers_end_as_python_does(
    tmp_path: Path, name: str, changes: dict[str, str]
) -> None:
    ended = run_script(tmp_path, name=name, **changes)
    assert ended == (3, ["thread", "handler", "first handler, which Python calls last"])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/bin/cnnbench", True),
        ("/home/me/cnnbench/__main__.py", True),
        ("/home/me/cnnbench/train.py", False),
        ("/usr/lib/pytest/__main__.py", False),
        (None, False),
    ],
)
def test_only_the_command_is_the_program(path: str | None, expected: bool) -> None:
    main = ModuleType("__main__")
    main.__file__ = path
    assert is_program(main) is expected
