"""The command line: versions, help, signals and exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.command import TINY, Command, clean_environment, find_only_run
from helpers.fork_server import ForkServer
from helpers.paths import ROOT

import cnnbench as package
from cnnbench.cli import main


def test_version_flag_prints_the_version(cnnbench: Command) -> None:
    assert cnnbench("--version").stdout.startswith("cnnbench 0.")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_run_with_status_interrupted(
    forks: ForkServer, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    running = forks.start(*TINY, "train.epochs=100000", folder=tmp_path)
    while running.is_running() and not list(tmp_path.rglob("metrics.csv")):
        time.sleep(0.01)
    running.send(number)
    done = running.wait()
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (
        json.loads((find_only_run(tmp_path) / "status.json").read_text())["state"] == "interrupted"
    )


@pytest.mark.parametrize(
    ("ending", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (SystemExit(3), 1)]
)
def test_error_while_a_signal_is_handled_does_not_hide_the_signal(
    within: Command, monkeypatch: pytest.MonkeyPatch, ending: BaseException, code: int
) -> None:
    def fail_in_cleanup(arguments: list[str]) -> int:
        try:
            raise ending
        finally:
            raise RuntimeError("half built")

    monkeypatch.setitem(main.COMMANDS, "models", fail_in_cleanup)
    done = within("models")
    assert (done.returncode, "bug in cnnbench" in done.stderr) == (code, code == 1)


@pytest.mark.parametrize("words", [["version"], ["-V"], ["--version"], ["train", "--version"]])
def test_version_is_printed_by_command_and_flags(cnnbench: Command, words: list[str]) -> None:
    assert cnnbench(*words).stdout == f"cnnbench {package.__version__}\n"


@pytest.mark.parametrize("command", [[], ["train"], ["report"], ["model=mlp"]])
def test_help_command_prints_the_same_as_the_flag(cnnbench: Command, command: list[str]) -> None:
    assert cnnbench("help", *command).stdout == cnnbench(*command, "--help").stdout


def test_deleted_working_folder_is_reported(tmp_path: Path) -> None:
    shell = 'mkdir gone && cd gone && rmdir ../gone && exec "$0" -m cnnbench models'
    command = ["sh", "-c", shell, sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    message = "cnnbench: The working folder is gone. Change to another.\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_closed_pipe_exits_with_141_without_an_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnbench", "summary", "model=resnet110"],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (141, "")
