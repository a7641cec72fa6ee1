"""Runs under torchrun: signals, restarts and output.

tests/training/test_distributed_runs.py tests more, with forked ranks, which start faster.
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

from cnnbench.runs.machine import spin_count
from cnnbench.runs.reading import read_status

# Each of the 4 epochs takes a second: long enough for a signal after the first checkpoint.
JOB = (
    "model=lenet_relu",
    "data=sample",
    "data.train_examples=1500",
    "data.validation=30",
    "data.test_examples=30",
    "train.batch_size=10",
    "train.epochs=4",
    "optimizer=momentum",
    "optimizer.lr=0.02",
    "device=cpu",
    "device.precision=fp32",
)


def torchrun(
    folder: Path, *arguments: str, after_checkpoint: Callable[[int], None] | None = None
) -> Done:
    """Run torchrun with two ranks.

    `after_checkpoint` is called with torchrun's process id once there is a checkpoint.
    """
    port = rank_environments(2)[0]["MASTER_PORT"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        f"--master-port={port}",
        *arguments,
    ]
    environment = clean_environment(folder)
    del environment["PYTHONWARNINGS"]  # torchrun itself emits warnings
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if after_checkpoint is not None:
        while process.poll() is None and not list(folder.glob("**/last.pt")):
            time.sleep(0.01)
        after_checkpoint(process.pid)
    output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def kill_rank_1(torchrun: int) -> None:
    """Send SIGKILL to the process of rank 1 that this torchrun has started."""
    children = Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split()
    (rank_1,) = (
        pid
        for pid in children
        if b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    )
    os.kill(int(rank_1), signal.SIGKILL)


def send_sigint(torchrun: int) -> None:
    os.kill(torchrun, signal.SIGINT)


def send_sighup(torchrun: int) -> None:
    os.kill(torchrun, signal.SIGHUP)


def filter_cnnbench_lines(done: Done) -> list[str]:
    """Return the lines on stderr that are not torchrun's."""
    prefixes = ("cnnbench: ", "cnnbench (", "To resume: ")
    return [line for line in done.stderr.splitlines() if line.startswith(prefixes)]


@pytest.fixture(scope="module")
def uninterrupted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = torchrun(folder, "-m", "cnnbench", *JOB, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.slow
def test_each_rank_sets_a_short_openmp_spin_count(uninterrupted_run: Path) -> None:
    environment = json.loads((uninterrupted_run / "environment.json").read_text())
    assert environment["openmp"] == {"GOMP_SPINCOUNT": str(spin_count())}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of torchrun in /proc")
def test_restarted_run_resumes_in_its_directory_with_the_same_bits(
    tmp_path: Path, uninterrupted_run: Path
) -> None:
    job = ("--max-restarts=1", "-m", "cnnbench", *JOB)
    done = torchrun(tmp_path, *job, after_checkpoint=kill_rank_1)
    assert done.returncode == 0, done.stderr
    (run,) = (status.parent for status in (tmp_path / "outputs").glob("*/*/status.json"))
    assert json.loads((run / "environment.json").read_text())["continued"][0]["epoch"] >= 1
    assert find_differences(run, uninterrupted_run) == []


@pytest.mark.slow
def test_ctrl_c_saves_and_prints_the_torchrun_command_that_resumes(
    tmp_path: Path, uninterrupted_run: Path
) -> None:
    job = ("-m", "cnnbench", *JOB, "hydra.run.dir=run")
    interrupted = torchrun(tmp_path, *job, after_checkpoint=send_sigint)
    *_, hint, last_line = filter_cnnbench_lines(interrupted)
    assert last_line == "cnnbench: interrupted"
    command = shlex.split(hint.removeprefix("To resume: "))
    assert command[:2] == ["torchrun", "--nproc-per-node=2"]
    done = torchrun(tmp_path, *command[2:])
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", uninterrupted_run) == []


@pytest.mark.slow
def test_closed_terminal_saves_a_checkpoint_to_resume_from(
    tmp_path: Path, uninterrupted_run: Path
) -> None:
    job = ("-m", "cnnbench", *JOB, "hydra.run.dir=run")
    interrupted = torchrun(tmp_path, *job, after_checkpoint=send_sighup)
    assert interrupted.returncode != 0
    assert read_status(tmp_path / "run")["state"] == "interrupted"
    log = (tmp_path / "run" / "train.log").read_text("utf-8")
    (hint,) = (line for line in log.splitlines() if "To resume: " in line)
    _, _, arguments = hint.partition("torchrun --nproc-per-node=2 ")
    done = torchrun(tmp_path, *shlex.split(arguments))
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", uninterrupted_run) == []


@pytest.mark.slow
def test_configuration_error_is_printed_once_by_torchrun(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "-m", "cnnbench", "train.epochs=0")
    assert filter_cnnbench_lines(done) == [
        "cnnbench: train.epochs=0 is out of range. It must be at least 1."
    ]


@pytest.mark.slow
def test_help_is_printed_once_and_ends_all_ranks(tmp_path: Path) -> None:
    done = torchrun(tmp_path, "-m", "cnnbench", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: cnnbench [COMMAND]") == 1
