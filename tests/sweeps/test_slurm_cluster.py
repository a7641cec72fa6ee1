"""Sweeps on a running Slurm of one node, with jobs that are preempted, requeued and canceled."""

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

# the command that each job of the first sweep runs in its sixth step; an epoch has 4 steps
ONE_JOB = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
STRIKE = f"""case $SLURM_ARRAY_TASK_ID in
    1) scancel --signal=USR2 {ONE_JOB} ;;
    2) scontrol requeue {ONE_JOB} ;;
    3) scancel {ONE_JOB} ;;
    *) exit 1 ;;
esac"""
UNDISTURBED, SIGNALED, REQUEUED, CANCELED = range(4)

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
    """Start a Slurm, and run the sweep `unharmed` without it."""
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
    """Return the states of the four jobs of a sweep. Then resume the canceled job."""
    first = slurm.sweep("struck", "0,1,2,3", STRIKE)
    states = [slurm.state("struck", seed) for seed in range(4)]
    assert "Traceback" not in first.stderr, first.stderr
    second = slurm.sweep("struck", "0,1,2,3", STRIKE)
    assert second.returncode == 0, second.stdout + second.stderr + slurm.logs("struck")
    return states


def test_all_jobs_except_the_canceled_one_finish(states: list[str]) -> None:
    assert states == ["finished", "finished", "finished", "interrupted"]


@pytest.mark.parametrize("seed", [UNDISTURBED, SIGNALED, REQUEUED, CANCELED])
def test_every_job_has_the_same_bits(slurm: Slurm, states: list[str], seed: int) -> None:
    assert find_differences(slurm.job("struck", seed), slurm.job("unharmed", seed)) == []


def test_job_in_its_grace_time_is_restarted(slurm: Slurm) -> None:
    done = slurm.sweep("preempted", "0", URGENT)
    assert (done.returncode, slurm.state("preempted", 0)) == (0, "finished"), slurm.logs(
        "preempted"
    )
    assert "Requeued job" in slurm.logs("preempted")
    assert find_differences(slurm.job("preempted", 0), slurm.job("unharmed", 0)) == []
