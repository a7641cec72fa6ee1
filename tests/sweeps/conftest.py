"""A finished sweep, and the place of a new one."""

import subprocess
from pathlib import Path

import pytest
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Return the directory of a sweep with the name `mine`."""
    return tmp_path / "outputs" / "sweeps" / "mine"


@pytest.fixture(scope="session")
def grid(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """Run a sweep over rates and seeds, in which one rate diverges. Return its directory too."""
    folder = tmp_path_factory.mktemp("grid")
    words = ("-m", *SMALL, "sweep=mine", "optimizer.lr=0.005,0.02,1e30", "seed=0,1")
    done = run_in_process(*words, folder=folder)
    return folder / "outputs" / "sweeps" / "mine", done
