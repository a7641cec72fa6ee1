"""The command under torchrun itself: its signals, its restarts, and what a person sees.

tests/training/test_distributed_runs.py has the same, quicker, with ranks that are forked.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import clean_environment
from helpers.compare_runs import find_differences
from helpers.two_process_runs import Done, rank_environments

from cnnbench.runs.reading import read_status

# 4 epochs of a second: long enough to be struck after the first checkpoint
JOB = (
    *(
        "model=lenet_relu",
        "data=sample",
        "data.train_examples=1500",
        "data.validation=30",
        "data.test_examples=30",
    ),
    *(
        "train.batch_size=10",
        "train.epochs=4",
        "optimizer=momentum",
        "optimizer.lr=0.02",
        "device=cpu",
    ),
    "device.precision=fp32",
)


def torchrun(folder: Path, *words: str, strike: Callable[[int], None] | None = None) -> Done:
    """torchrun with two processes; `strike` is called with its process id once there is a checkpoint."""
    port = rank_environments(2)[0]["MASTER_PORT"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        f"--master-port={port}",
        *words,
    ]
    environment = clean_environment(folder)
    del environment["PYTHONWARNINGS"]  # torchrun has some of its own
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if strike is not None:
        while process.poll() is None and not list(folder.glob("**/last.pt")):
            time.sleep(0.01)
        strike(process.pid)
    output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def kill_second(torchrun: int) -> None:
    """SIGKILL to the process of rank 1 that this torchrun has started."""
    children = Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()
    (second,) = (
        pid
        for pid in children
        if b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    )
    os.kill(int(second), signal.SIGKILL)


def interrupt(torchrun: int) -> None:
    os.kill(torchrun, signal.SIGINT)


def hang_up(torchrun: int) -> None:
    os.kill(torchrun, signal.SIGHUP)


def ours(done: Done) -> list[str]:
    """The lines on stderr that are not torchrun's."""
    return [
        line
        for line in done.stderr.splitlines()
        if line.startswith(("cnnbench: ", "cnnbench (", "To resume: "))
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    done = torchrun(folder, "-m", "cnnbench", *JOB, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.slow
def test_threads_of_a_rank_spin_briefly(whole: Path) -> None:
    assert json.loads((whole / "environment.json").read_text())["openmp"] == {
        "GOMP_SPINCOUNT": "20000"
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of torchrun in /proc")
def test_what_torchrun_restarts_goes_on_in_its_directory_to_the_same_bits(
    tmp_path: Path, whole: Path
) -> None:
    done = torchrun(tmp_path, "--max-restarts=1", "-m", "cnnbench", *JOB, strike=kill_second)
    assert done.returncode == 0, done.stderr
    (run,) = (status.parent for status in (tmp_path / "outputs").glob("*/*/status.json"))
    assert json.loads((run / "environment.json").read_text())["continued"][0]["epoch"] >= 1
    assert find_differences(run, whole) == []


@pytest.mark.slow
def test_ctrl_c_saves_and_prints_the_command_of_torchrun_that_goes_on(
    tmp_path: Path, whole: Path
) -> None:
    struck = torchrun(tmp_path, "-m", "cnnbench", *JOB, "hydra.run.dir=run", strike=interrupt)
    *_, printed, interrupted = ours(struck)
    assert interrupted == "cnnbench: interrupted"
    words = shlex.split(printed.removeprefix("To resume: "))
    assert words[:2] == ["torchrun", "--nproc-per-node=2"]
    done = torchrun(tmp_path, *words[2:])
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", whole) == []


@pytest.mark.slow
def test_a_closed_terminal_saves_what_the_processes_have_done(tmp_path: Path, whole: Path) -> None:
    struck = torchrun(tmp_path, "-m", "cnnbench", *JOB, "hydra.run.dir=run", strike=hang_up)
    assert struck.returncode != 0
    assert read_status(tmp_path / "run")["state"] == "interrupted"
    log = (tmp_path / "run" / "train.log").read_text("utf-8")
    (printed,) = (line for line in log.splitlines() if "To resume: " in line)
    done = torchrun(tmp_path, *shlex.split(printed.partition("torchrun --nproc-per-node=2 ")[2]))
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", whole) == []


@pytest.mark.slow
def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "-m", "cnnbench", "train.epochs=0")
    assert ours(done) == ["cnnbench: train.epochs=0 is out of range. It must be at least 1."]


@pytest.mark.slow
def test_help_is_printed_once_and_ends_all_processes(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "-m", "cnnbench", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: cnnbench [COMMAND]") == 1
