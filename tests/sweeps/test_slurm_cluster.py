"""Sweeps on a Slurm that runs, of one node: jobs that are preempted, queued again and cancelled."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.paths import ROOT
from helpers.slurm_cluster import SlurmCluster, missing_programs
from helpers.small_runs import SMALL, find_job

from cnnbench.runs.reading import read_status

pytestmark = pytest.mark.slow

MISSING = missing_programs()
SEARCH_PATH = ":".join(
    map(str, [ROOT / "tests" / "helpers" / "job_fault_injection", *filter(None, sys.path)])
)
ON_SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")
TIMEOUT_S = 200

# what happens to each job of the first sweep in its sixth step: 4 steps are an epoch
ONE_JOB = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
STRIKE = f"""case $SLURM_ARRAY_TASK_ID in
    1) scancel --signal=USR2 {ONE_JOB} ;;
    2) scontrol requeue {ONE_JOB} ;;
    3) scancel {ONE_JOB} ;;
    *) exit 1 ;;
esac"""
UNDISTURBED, SIGNALLED, QUEUED_AGAIN, CANCELLED = range(4)

URGENT = "sbatch --partition=urgent --exclusive --output=/dev/null --wrap=true"


@dataclass(frozen=True)
class Slurm:
    cluster: SlurmCluster
    forks: ForkServer
    folder: Path

    def sweep(self, name: str, seeds: str, strike: str) -> "CompletedProcess[str]":
        environment = {**self.cluster.environment, "PYTHONPATH": SEARCH_PATH, "STRIKE": strike}
        sweep = ("-m", *SMALL, f"seed={seeds}", f"sweep={name}", *ON_SLURM)
        running = self.forks.start(*sweep, folder=self.folder, **environment)
        give_up_at = time.monotonic() + TIMEOUT_S
        while running.is_running() and time.monotonic() < give_up_at:
            self.cluster.start_waiting_jobs()
            time.sleep(0.2)
        return running.wait(timeout_s=0)

    def job(self, sweep: str, seed: int) -> Path:
        return find_job(self.folder / "outputs/sweeps" / sweep, f"seed={seed}")

    def state(self, sweep: str, seed: int) -> str:
        return str(read_status(self.job(sweep, seed))["state"])

    def logs(self, sweep: str) -> str:
        logs = (self.folder / "outputs/sweeps" / sweep / ".submitit").rglob("*_log.*")
        return "\n".join(log.read_text() for log in sorted(logs))


@pytest.fixture(scope="module")
def slurm(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Also the sweep `unharmed`, which has nothing to do with it."""
    if MISSING:
        pytest.skip(
            f"there is no {', '.join(MISSING)}: apt-get install slurmctld slurmd slurm-client munge"
        )
    folder = tmp_path_factory.mktemp("shared")
    unharmed = forks.run("-m", *SMALL, "seed=0,1,2,3", "sweep=unharmed", folder=folder)
    assert unharmed.returncode == 0, unharmed.stderr
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield Slurm(cluster, forks, folder)


@pytest.fixture(scope="module")
def states(slurm: Slurm) -> list[str]:
    """How the four jobs of a sweep have ended; then the same command has gone on with the one that was cancelled."""
    first = slurm.sweep("struck", "0,1,2,3", STRIKE)
    states = [slurm.state("struck", seed) for seed in range(4)]
    assert "Traceback" not in first.stderr, first.stderr
    second = slurm.sweep("struck", "0,1,2,3", STRIKE)
    assert second.returncode == 0, second.stdout + second.stderr + slurm.logs("struck")
    return states


def test_all_jobs_but_one_that_is_cancelled_finish(states: list[str]) -> None:
    assert states == ["finished", "finished", "finished", "interrupted"]


@pytest.mark.parametrize("seed", [UNDISTURBED, SIGNALLED, QUEUED_AGAIN, CANCELLED])
def test_whatever_happens_to_a_job_it_ends_with_the_same_bits(
    slurm: Slurm, states: list[str], seed: int
) -> None:
    assert find_differences(slurm.job("struck", seed), slurm.job("unharmed", seed)) == []


def test_a_job_that_slurm_gives_time_to_end_is_started_again(slurm: Slurm) -> None:
    done = slurm.sweep("preempted", "0", URGENT)
    assert (done.returncode, slurm.state("preempted", 0)) == (0, "finished"), slurm.logs(
        "preempted"
    )
    assert "Requeued job" in slurm.logs("preempted")
    assert find_differences(slurm.job("preempted", 0), slurm.job("unharmed", 0)) == []
