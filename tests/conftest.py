"""What all tests may use."""

import subprocess
from pathlib import Path

import pytest
from installed import Command, run_command


@pytest.fixture
def cnnbench(tmp_path: Path) -> Command:
    """Call as cnnbench("data=sample", "train.epochs=1"): stdout, stderr and returncode of the command."""

    def call(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        return run_command(arguments, tmp_path, changes)

    return call
