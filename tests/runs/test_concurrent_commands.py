"""Several commands at the same time in the same folder: one writer per run directory."""

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
    """Return the directory of an interrupted run with many epochs left."""
    faults = [(signal.SIGINT, "step", 3)]
    done = forks.run(*ENDLESS, "hydra.run.dir=run", folder=tmp_path, faults=faults)
    assert done.returncode == 130, done.stderr
    return tmp_path / "run"


def wait_for_one(first: Running, second: Running) -> tuple[Running, Running]:
    """Wait until one command ends. Return it and the other."""
    while first.is_running() and second.is_running():
        time.sleep(0.01)
    return (second, first) if first.is_running() else (first, second)


def in_use_message(run: str, holder: Running) -> str:
    who = f"process {holder.pid} on {socket.gethostname()}"
    return f"cnnbench: {run} is in use: {who} writes there. Wait for it, or end it first.\n"


def test_runs_started_at_once_get_separate_directories_and_finish(
    forks: ForkServer, tmp_path: Path
) -> None:
    time.sleep(1 - time.time() % 1)  # a directory is named after the second
    started = [forks.start(*TINY, folder=tmp_path) for _ in range(4)]
    ended = [command.wait() for command in started]
    assert [done.returncode for done in ended] == [0] * 4, [done.stderr for done in ended]
    runs = {tmp_path / done.stdout.splitlines()[-1] for done in ended}
    assert len(runs) == 4
    assert {(run, read_status(run)["state"]) for run in runs} == {(run, "finished") for run in runs}


def test_second_resume_of_a_run_is_refused_with_the_process_of_the_first(
    forks: ForkServer, interrupted: Path
) -> None:
    both = [forks.start("resume", "run", folder=interrupted.parent) for _ in range(2)]
    loser, winner = wait_for_one(*both)
    ended = loser.wait()
    assert (ended.returncode, ended.stderr) == (2, in_use_message("run", winner)), ended
    assert read_status(interrupted)["pid"] == winner.pid
    winner.kill()


def test_running_run_is_not_resumed(forks: ForkServer, tmp_path: Path) -> None:
    running = forks.start(*ENDLESS, "hydra.run.dir=run", folder=tmp_path)
    while running.is_running() and not (tmp_path / "run" / "metrics.csv").exists():
        time.sleep(0.01)
    refused = forks.run("resume", "run", folder=tmp_path)
    assert (refused.returncode, refused.stderr) == (2, in_use_message("run", running)), refused
    assert read_status(tmp_path / "run")["state"] == "running"
    running.kill()


def test_running_job_is_not_started_again_by_the_same_sweep(
    forks: ForkServer, tmp_path: Path
) -> None:
    sweep = ("-m", *ENDLESS, "seed=3", "sweep=twice")
    running = forks.start(*sweep, folder=tmp_path)
    while running.is_running() and not list(tmp_path.rglob("metrics.csv")):
        time.sleep(0.01)
    refused = forks.run(*sweep, folder=tmp_path)
    (run,) = (path.parent for path in tmp_path.rglob("metrics.csv"))
    assert (refused.returncode, refused.stderr) == (2, in_use_message(str(run), running)), refused
    running.kill()
