"""What all tests may use."""

import subprocess
from pathlib import Path

import pytest
from installed import Command, run_command

from cnnbench import cli


@pytest.fixture
def cnnbench(tmp_path: Path) -> Command:
    """Call as cnnbench("data=sample", "train.epochs=1"): stdout, stderr and returncode of the command."""

    def call(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        return run_command(arguments, tmp_path, changes)

    return call


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """As the fixture `cnnbench`, but in this process, which has PyTorch imported already."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setattr("sys.argv", ["cnnbench", *arguments])
        try:
            code = cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        output, errors = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, output, errors)

    return call
