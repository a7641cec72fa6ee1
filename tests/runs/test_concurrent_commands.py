"""Several commands at the same time in the same place: one writer per run directory."""

import signal
import socket
import time
from pathlib import Path

import pytest
from helpers.command import TINY
from helpers.fork_server import ForkServer, Running

from cnnbench.runs.reading import read_status

ENDLESS = (*TINY, "train.epochs=10000", "train.checkpoint_every.epochs=100")


@pytest.fixture
def interrupted(forks: ForkServer, tmp_path: Path) -> Path:
    """The directory of a run that has long to go yet, and that nobody writes to."""
    faults = [(signal.SIGINT, "step", 3)]
    struck = forks.run(*ENDLESS, "hydra.run.dir=run", folder=tmp_path, faults=faults)
    assert struck.returncode == 130, struck.stderr
    return tmp_path / "run"


def until_one_ends(first: Running, second: Running) -> tuple[Running, Running]:
    """The one that has ended, and the other."""
    while first.is_running() and second.is_running():
        time.sleep(0.01)
    return (second, first) if first.is_running() else (first, second)


def in_use(run: str, holder: Running) -> str:
    who = f"process {holder.pid} on {socket.gethostname()}"
    return f"cnnbench: {run} is in use: {who} writes there. Wait for it, or end it first.\n"


def test_runs_started_at_once_get_directories_of_their_own_and_finish(
    forks: ForkServer, tmp_path: Path
) -> None:
    time.sleep(1 - time.time() % 1)  # a directory is named after the second
    started = [forks.start(*TINY, folder=tmp_path) for _ in range(4)]
    ended = [each.wait() for each in started]
    assert [each.returncode for each in ended] == [0] * 4, [each.stderr for each in ended]
    runs = {tmp_path / each.stdout.splitlines()[-1] for each in ended}
    assert len(runs) == 4
    assert {(run, read_status(run)["state"]) for run in runs} == {(run, "finished") for run in runs}


def test_of_two_that_resume_at_once_the_second_is_told_who_the_first_is(
    forks: ForkServer, interrupted: Path
) -> None:
    both = [forks.start("resume", "run", folder=interrupted.parent) for _ in range(2)]
    loser, winner = until_one_ends(*both)
    ended = loser.wait()
    assert (ended.returncode, ended.stderr) == (2, in_use("run", winner)), ended
    assert read_status(interrupted)["pid"] == winner.pid
    winner.kill()


def test_a_run_that_is_running_is_not_resumed(forks: ForkServer, tmp_path: Path) -> None:
    running = forks.start(*ENDLESS, "hydra.run.dir=run", folder=tmp_path)
    while running.is_running() and not (tmp_path / "run" / "metrics.csv").exists():
        time.sleep(0.01)
    refused = forks.run("resume", "run", folder=tmp_path)
    assert (refused.returncode, refused.stderr) == (2, in_use("run", running)), refused
    assert read_status(tmp_path / "run")["state"] == "running"
    running.kill()


def test_a_job_that_is_running_is_not_begun_by_the_same_sweep_again(
    forks: ForkServer, tmp_path: Path
) -> None:
    sweep = ("-m", *ENDLESS, "seed=3", "sweep=twice")
    running = forks.start(*sweep, folder=tmp_path)
    while running.is_running() and not list(tmp_path.rglob("metrics.csv")):
        time.sleep(0.01)
    refused = forks.run(*sweep, folder=tmp_path)
    (run,) = (path.parent for path in tmp_path.rglob("metrics.csv"))
    assert (refused.returncode, refused.stderr) == (2, in_use(str(run), running)), refused
    running.kill()
