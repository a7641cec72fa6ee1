"""Runs on disks that are full, read-only or removed, and with clocks that go back."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from helpers.command import Command, clean_environment
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer, Running
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, Runs, read_files

from cnnbench.runs import directory
from cnnbench.training import checkpoint

LONG = (*SMALL, "train.epochs=100000", "hydra.run.dir=run")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system, to fill it up."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("only root may mount a file system")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path, room: int) -> None:
    """Fill a disk until `room` bytes are free."""
    with (disk / "ballast").open("wb") as file:
        left = os.statvfs(disk)
        file.write(bytes(left.f_bavail * left.f_frsize - room))


def is_clear_error(done: "subprocess.CompletedProcess[str]") -> bool:
    return done.returncode == 2 and "cnnbench: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "kilobytes",
    [
        *(0, 8, 16, 48, 96, 128, 192),
        *(pytest.param(number, marks=pytest.mark.slow) for number in (4, 12, 24, 32, 64, 160)),
    ],
)
def test_run_on_a_full_disk_ends_with_an_error_and_is_resumed_with_space(
    kilobytes: int, runs: Runs, disk: Path
) -> None:
    fill(disk, kilobytes << 10)
    done = run_in_process(*SMALL, "hydra.run.dir=run", folder=disk)
    assert is_clear_error(done), done
    assert "Logging error" not in done.stderr
    (disk / "ballast").unlink()
    for path in disk.glob("run/checkpoints/*.pt"):
        checkpoint.load_checkpoint(path)
    if (disk / "run" / "config.yaml").exists():
        done = run_in_process("resume", "run", folder=disk)
        assert done.returncode == 0, done.stderr
        assert find_differences(disk / "run", runs.uninterrupted("in_first_epoch")) == []


# A checkpoint has a little more than 60 kB.
@pytest.mark.parametrize("kilobytes", [0, 4, 8, 16, 32, 56, 60])
def test_resume_on_a_full_disk_keeps_the_files(kilobytes: int, runs: Runs, disk: Path) -> None:
    run = runs.copy("in_second_epoch", disk / "run")
    fill(disk, kilobytes << 10)
    done = run_in_process("resume", "run", folder=disk)
    assert is_clear_error(done), done
    (disk / "ballast").unlink()
    done = run_in_process("resume", "run", folder=disk)
    assert done.returncode == 0, done.stderr
    assert find_differences(run, runs.uninterrupted("in_second_epoch")) == []


def test_read_only_disk_is_reported_and_keeps_the_files(runs: Runs, disk: Path) -> None:
    run = runs.copy("in_second_epoch", disk / "run")
    before = read_files(run)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = run_in_process("resume", "run", folder=disk)
    assert is_clear_error(done), done
    assert "Read-only" in done.stderr
    assert read_files(run) == before


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_checkpoint_above_the_file_size_limit_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnnbench", *SMALL, "hydra.run.dir=run"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=limit_file_size,
    )
    assert is_clear_error(done), done
    assert "too large" in done.stderr


def start_long_run(forks: ForkServer, folder: Path) -> Running:
    """Start a run of hours, and wait for its first checkpoint."""
    running = forks.start(*LONG, folder=folder)
    while not (folder / "run" / "checkpoints" / "last.pt").exists():
        assert running.is_running(), running.errors
        time.sleep(0.01)
    return running


@pytest.mark.parametrize("name", ["run", "run/checkpoints"])
def test_run_whose_folder_is_deleted_ends_with_an_error(
    name: str, forks: ForkServer, tmp_path: Path
) -> None:
    running = start_long_run(forks, tmp_path)
    (tmp_path / name).rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    assert is_clear_error(running.wait()), running.errors


@pytest.mark.parametrize("name", ["run", pytest.param("run/checkpoints", marks=pytest.mark.slow)])
def test_run_without_write_permission_ends_with_an_error(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnnbench", *LONG]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and setpriv is missing")
        command = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *command]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(tmp_path), stdout=pipe, stderr=pipe, text=True
    )
    while not (tmp_path / "run" / "checkpoints" / "last.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    (tmp_path / name).chmod(0o555)
    output, errors = process.communicate(timeout=120)
    (tmp_path / name).chmod(0o755)
    done = subprocess.CompletedProcess(command, process.returncode, output, errors)
    assert is_clear_error(done), errors
    assert "Permission denied" in errors


class Backwards(datetime):
    """A clock that goes back an hour with every call."""

    calls = 0

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        cls.calls += 1
        return datetime(2026, 1, 1) - timedelta(hours=cls.calls)


def test_durations_do_not_depend_on_the_system_clock(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.time()
    monkeypatch.setattr(directory, "datetime", Backwards)
    monkeypatch.setattr(time, "time", lambda: began - 3600 * time.perf_counter())
    done = within(*SMALL, "hydra.run.dir=run")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        durations = [
            float(row[name])
            for row in csv.DictReader(file)
            for name in ("epoch_s", "examples_per_s")
        ]
    durations += json.loads((tmp_path / "run" / "result.json").read_text())["wall_s"].values()
    assert done.returncode == 0, done.stderr
    assert min(durations) >= 0
