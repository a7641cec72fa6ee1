"""Sweeps whose jobs submitit starts, in local processes that get the signals of Slurm.

tests/sweeps/test_slurm_cluster.py tests the same with a running Slurm.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.paths import ROOT
from helpers.small_runs import SMALL, find_job

from cnnbench.runs.machine import spin_count
from cnnbench.runs.reading import read_status

JOB = tuple(word for word in SMALL if not word.startswith("optimizer.lr="))
GOOD, BAD = "optimizer.lr=0.01", "optimizer.lr=1e+30"
SEARCH_PATH = ":".join(
    map(str, [ROOT / "tests" / "helpers" / "job_fault_injection", *filter(None, sys.path)])
)


@dataclass(frozen=True)
class Sweeps:
    """A sweep started by submitit, with its exit code, and a sweep without interruptions."""

    code: int
    ours: Path
    unharmed: Path


@pytest.fixture(scope="module")
def sweeps(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    """Run two jobs. One diverges. The other is preempted in the middle of its second epoch."""
    folder = tmp_path_factory.mktemp("locally")
    unharmed = forks.run("-m", *JOB, GOOD, "sweep=unharmed", folder=folder)
    assert unharmed.returncode == 0, unharmed.stderr
    jobs = (*JOB, "optimizer.lr=0.01,1e+30", "sweep=ours", "hydra/launcher=slurm_local")
    done = forks.run("-m", *jobs, folder=folder, PYTHONPATH=SEARCH_PATH, STRIKE="kill -USR2 $PPID")
    assert done.returncode == 4, done.stdout + done.stderr
    return Sweeps(
        done.returncode, folder / "outputs/sweeps/ours", folder / "outputs/sweeps/unharmed"
    )


@pytest.mark.slow
def test_one_job_finishes_and_one_fails(sweeps: Sweeps) -> None:
    states = {job: read_status(find_job(sweeps.ours, job))["state"] for job in (GOOD, BAD)}
    assert states == {GOOD: "finished", BAD: "failed"}


@pytest.mark.slow
def test_threads_of_a_job_spin_briefly(sweeps: Sweeps) -> None:
    environment = json.loads((find_job(sweeps.ours, GOOD) / "environment.json").read_text())
    assert environment["openmp"] == {"GOMP_SPINCOUNT": str(spin_count())}


@pytest.mark.slow
def test_exit_code_is_that_of_the_failed_job(sweeps: Sweeps) -> None:
    assert sweeps.code == 4


@pytest.mark.slow
def test_preempted_job_resumes_at_its_last_step(sweeps: Sweeps) -> None:
    environment = json.loads((find_job(sweeps.ours, GOOD) / "environment.json").read_text())
    continued = environment["continued"]
    assert [(record["epoch"], record["step"]) for record in continued] == [(1, 2)]


@pytest.mark.slow
def test_preempted_job_has_the_same_bits(sweeps: Sweeps) -> None:
    assert find_differences(find_job(sweeps.ours, GOOD), find_job(sweeps.unharmed, GOOD)) == []


@pytest.fixture
def failing_slurm(tmp_path: Path) -> str:
    """Return a PATH on which the commands of Slurm fail."""
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text(
            "#!/bin/sh\necho invalid partition specified: gpu >&2\nexit 1\n"
        )
        (tmp_path / name).chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


def test_error_of_sbatch_is_printed(forks: ForkServer, tmp_path: Path, failing_slurm: str) -> None:
    done = forks.run("-m", *SMALL, "hydra/launcher=slurm", folder=tmp_path, PATH=failing_slurm)
    assert done.returncode == 2, done.stderr
    assert "invalid partition specified: gpu" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_slurm_is_reported(forks: ForkServer, tmp_path: Path) -> None:
    done = forks.run("-m", *SMALL, "hydra/launcher=slurm", folder=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 2, done.stderr
    message = 'submitit: Could not detect "srun", are you indeed on a slurm cluster?'
    assert done.stderr == f"cnnbench: {message}\n"
    assert "not begun" not in done.stdout
