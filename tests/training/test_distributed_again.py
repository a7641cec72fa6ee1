"""The same command again, and `cnnbench again`, in two ranks."""

import shutil
import signal
from pathlib import Path

import pytest
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.small_runs import SMALL
from helpers.two_process_runs import run_ranks

JOB = (*SMALL, "hydra.run.dir=run")


def run_both(forks: ForkServer, folder: Path, *arguments: str) -> str:
    """Run a command in two ranks; return the stdout of rank 0."""
    rank_0, rank_1 = run_ranks(forks, *arguments, folder=folder)
    assert (rank_0.returncode, rank_1.returncode) == (0, 0), rank_0.stderr + rank_1.stderr
    assert rank_1.stdout == ""
    return rank_0.stdout


@pytest.fixture(scope="module")
def two_rank_run(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of an uninterrupted run of two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    run_both(forks, folder, *JOB)
    return folder / "run"


def test_same_command_resumes_or_reports_a_run_of_two_ranks(
    forks: ForkServer, tmp_path: Path, two_rank_run: Path
) -> None:
    run = shutil.copytree(two_rank_run, tmp_path / "run")
    printed = run_both(forks, tmp_path, *JOB)
    assert printed.startswith("run is finished with a test accuracy of")
    (run / "result.json").unlink()
    assert "Resumes after 2 epochs." in run_both(forks, tmp_path, *JOB)
    assert find_differences(run, two_rank_run) == []


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_same_command_resumes_a_killed_run_of_two_ranks(
    forks: ForkServer, tmp_path: Path, two_rank_run: Path, killed: int
) -> None:
    faults = [(int(signal.SIGKILL), "step", 6)]
    ranks = run_ranks(forks, *JOB, faults=faults, faulty_rank=killed, folder=tmp_path)
    assert ranks[killed].returncode == -signal.SIGKILL
    assert "Resumes after" in run_both(forks, tmp_path, *JOB)
    assert find_differences(tmp_path / "run", two_rank_run) == []


def test_again_trains_in_two_ranks(forks: ForkServer, tmp_path: Path, two_rank_run: Path) -> None:
    run_both(forks, tmp_path, "again", str(two_rank_run), "hydra.run.dir=run")
    assert find_differences(tmp_path / "run", two_rank_run) == []
