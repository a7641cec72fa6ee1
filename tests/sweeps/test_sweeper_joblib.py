"""Sweeps whose jobs run in parallel, with hydra/launcher=joblib."""

import json
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.command import run_command
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, find_job

from cnnbench.runs.machine import spin_count
from cnnbench.runs.reading import read_status

Done = subprocess.CompletedProcess[str]
SWEEP = ("-m", *SMALL, "sweep=mine")


@pytest.mark.slow
def test_parallel_jobs_have_the_bits_of_sequential_jobs(
    grid: tuple[Path, Done], forks: ForkServer, tmp_path: Path, mine: Path
) -> None:
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = forks.run(*SWEEP, "optimizer.lr=0.005,0.02", "seed=0,1", *parallel, folder=tmp_path)
    assert (done.returncode, "4 runs: 4 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    for line in (r"#3 Test accuracy", r"#3 4 of 4, about \d+ s left$"):
        assert re.search(f"^{line}", done.stdout, re.MULTILINE), done.stdout
    names = [path.parent.name for path in mine.glob("*/result.json")]
    found = {name: find_differences(mine / name, grid[0] / name) for name in names}
    assert found == {name: [] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("unwritable", ["pipe", "full"])
def test_parallel_jobs_finish_when_nothing_can_be_printed(
    forks: ForkServer, tmp_path: Path, mine: Path, unwritable: str
) -> None:
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "--plot")
    words = (*SWEEP, "optimizer.lr=1e30,0.01", *parallel)
    done = forks.run(*words, folder=tmp_path, unwritable=unwritable)
    assert done.returncode == 4
    states = {str(run): read_status(run)["state"] for run in mine.glob("*=*")}
    assert sorted(states.values()) == ["failed", "finished"], states


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_parallel_jobs_are_saved_when_their_parent_gets_a_signal_twice(
    forks: ForkServer, tmp_path: Path, mine: Path, number: int
) -> None:
    endless = [*SWEEP, "train.epochs=100000", "train.checkpoint_every.steps=null"]
    rare = ["train.checkpoint_every.epochs=100000", "seed=0,1"]
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    parent = forks.start(*endless, *rare, *parallel, folder=tmp_path)
    while parent.is_running() and len(list(mine.glob("*/metrics.csv"))) < 2:
        time.sleep(0.05)
    parent.send(number)
    time.sleep(0.02)
    parent.send(number)
    assert parent.wait().returncode == 128 + number
    saved = [
        (path.parent / "checkpoints" / "last.pt").exists() for path in mine.glob("*/metrics.csv")
    ]
    assert saved == [True, True]


@pytest.mark.slow
def test_parallel_jobs_are_saved_when_their_parent_is_killed(
    forks: ForkServer, tmp_path: Path, mine: Path
) -> None:
    words = [*SWEEP, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    endless = [*words, "train.epochs=100000", "train.checkpoint_every.epochs=100000"]
    parent = forks.start(*endless, folder=tmp_path)
    while parent.is_running() and len(list(mine.glob("*/metrics.csv"))) < 2:
        time.sleep(0.05)
    again = forks.run(*endless, folder=tmp_path)
    assert (again.returncode, again.stderr.count("is in use")) == (2, 2), again.stderr
    parent.kill()
    jobs = [path.parent for path in mine.glob("*/metrics.csv")]
    give_up_at = time.monotonic() + 60
    while any(read_status(job)["state"] == "running" for job in jobs):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    assert all((job / "checkpoints" / "last.pt").exists() for job in jobs)


@pytest.mark.slow
def test_parallel_job_records_the_typed_command(tmp_path: Path, mine: Path) -> None:
    done = run_command(
        [*SWEEP, "seed=0", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"], tmp_path
    )
    assert done.returncode == 0, done.stderr
    environment = json.loads((find_job(mine, "seed=0") / "environment.json").read_text())
    assert shlex.split(environment["command"])[1:] == done.args[1:]
    assert environment["openmp"] == {"GOMP_SPINCOUNT": str(spin_count())}


def test_benchmark_refuses_parallel_jobs(tmp_path: Path) -> None:
    done = run_in_process(
        "benchmark", "-m", *SMALL, "seed=0,1", "hydra/launcher=joblib", folder=tmp_path
    )
    assert (done.returncode, "measures one network after another" in done.stderr) == (2, True), (
        done.stderr
    )
