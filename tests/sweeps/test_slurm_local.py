"""Sweeps whose jobs submitit starts, without Slurm: in processes that are sent signals and started again as Slurm does.

tests/sweeps/test_slurm_cluster.py has the same with a Slurm that runs.
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

from cnnbench.runs.reading import read_status

JOB = tuple(word for word in SMALL if not word.startswith("optimizer.lr="))
GOOD, BAD = "optimizer.lr=0.01", "optimizer.lr=1e+30"
SEARCH_PATH = ":".join(
    map(str, [ROOT / "tests" / "helpers" / "job_fault_injection", *filter(None, sys.path)])
)


@dataclass(frozen=True)
class Sweeps:
    """The exit code and the directory of a sweep of submitit's, and a sweep that nothing interrupts."""

    code: int
    ours: Path
    unharmed: Path


@pytest.fixture(scope="module")
def sweeps(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    """Two jobs, one of which diverges; the other is preempted once, in the middle of its second epoch."""
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
def test_each_job_has_its_own_end(sweeps: Sweeps) -> None:
    states = {job: read_status(find_job(sweeps.ours, job))["state"] for job in (GOOD, BAD)}
    assert states == {GOOD: "finished", BAD: "failed"}


@pytest.mark.slow
def test_threads_of_a_job_spin_briefly(sweeps: Sweeps) -> None:
    environment = json.loads((find_job(sweeps.ours, GOOD) / "environment.json").read_text())
    assert environment["openmp"] == {"GOMP_SPINCOUNT": "20000"}


@pytest.mark.slow
def test_the_exit_code_is_that_of_the_failure(sweeps: Sweeps) -> None:
    assert sweeps.code == 4


@pytest.mark.slow
def test_a_job_that_is_preempted_goes_on_where_it_stood(sweeps: Sweeps) -> None:
    continued = json.loads((find_job(sweeps.ours, GOOD) / "environment.json").read_text())[
        "continued"
    ]
    assert [(each["epoch"], each["step"]) for each in continued] == [(1, 2)]


@pytest.mark.slow
def test_a_job_that_is_preempted_ends_with_the_same_bits(sweeps: Sweeps) -> None:
    assert find_differences(find_job(sweeps.ours, GOOD), find_job(sweeps.unharmed, GOOD)) == []


@pytest.fixture
def slurm_that_refuses(tmp_path: Path) -> str:
    """A PATH with commands of Slurm's that fail."""
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text(
            "#!/bin/sh\necho invalid partition specified: gpu >&2\nexit 1\n"
        )
        (tmp_path / name).chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


def test_what_sbatch_says_is_told(
    forks: ForkServer, tmp_path: Path, slurm_that_refuses: str
) -> None:
    done = forks.run("-m", *SMALL, "hydra/launcher=slurm", folder=tmp_path, PATH=slurm_that_refuses)
    assert done.returncode == 2, done.stderr
    assert "invalid partition specified: gpu" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_there_is_no_slurm_that_is_told(forks: ForkServer, tmp_path: Path) -> None:
    done = forks.run("-m", *SMALL, "hydra/launcher=slurm", folder=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert (
        done.stderr
        == 'cnnbench: submitit: Could not detect "srun", are you indeed on a slurm cluster?\n'
    )
    assert "not begun" not in done.stdout
