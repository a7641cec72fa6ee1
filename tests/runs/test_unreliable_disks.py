"""Runs on file systems that cannot sync or lock, that fail or are slow, lose nothing."""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.compare_runs import find_differences
from helpers.small_runs import SMALL, Runs

from cnnbench.runs import atomic_files

WARNING = "may not be on disk: Input/output error"

Disk = Callable[..., None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return a function that lets sync and lock of folders fail, and with `files` of files too."""
    monkeypatch.setattr(atomic_files, "_warned", False)

    def fail(number: int, *, files: bool) -> None:
        def refuse(descriptor: int, kind: int = 0) -> None:
            if files or stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)
        monkeypatch.setattr(fcntl, "flock", refuse)

    return fail


def train_and_resume(within: Command) -> str:
    """Train for two epochs and resume for a third. Return the output."""
    done = within(*SMALL, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    resumed = within("resume", "run", "train.epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    return done.stdout + done.stderr + resumed.stdout + resumed.stderr


@pytest.mark.parametrize("files", [False, True], ids=["folders", "all"])
@pytest.mark.parametrize(("number", "warnings"), [(errno.EINVAL, 0), (errno.EIO, 1)])
def test_run_continues_without_sync_and_warns_once_of_a_failing_disk(
    number: int, warnings: int, files: bool, disk: Disk, within: Command, runs: Runs, tmp_path: Path
) -> None:
    disk(number, files=files)
    output = train_and_resume(within)
    log = (tmp_path / "run" / "train.log").read_text()
    assert [text.count("may not be on disk") for text in (output, log)] == [warnings] * 2
    assert os.strerror(number) not in output or warnings
    assert find_differences(tmp_path / "run", runs.uninterrupted("finished")) == []


def test_export_warns_of_a_failing_disk(
    disk: Disk, within: Command, runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs.copy("finished", tmp_path / "run")
    disk(errno.EIO, files=True)
    done = within("export", "run", "--format=safetensors")
    assert (done.returncode, caplog.text.count(WARNING)) == (0, 1), done.stderr


def test_training_does_not_wait_for_the_disk_after_each_epoch(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[threading.Thread] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: waited.append(threading.current_thread()))
    numbers = []
    for epochs in (2, 5):
        waited.clear()
        assert (
            within(*SMALL, f"train.epochs={epochs}", f"hydra.run.dir=run{epochs}").returncode == 0
        )
        numbers.append(waited.count(threading.main_thread()))
        assert len(waited) > numbers[-1]  # checkpoints are synced, by their own thread
    assert numbers[0] == numbers[1] > 0


def test_run_continues_after_other_errors_of_sync(disk: Disk, within: Command) -> None:
    disk(errno.EACCES, files=True)
    output = train_and_resume(within)
    assert output.count("may not be on disk: ") == 1, output


def test_full_disk_at_sync_ends_a_run(disk: Disk, within: Command) -> None:
    disk(errno.ENOSPC, files=True)
    done = within(*SMALL, "hydra.run.dir=run")
    assert (done.returncode, "No space left on device" in done.stderr) == (2, True), done.stderr


def test_broken_link_to_the_output_folder_is_reported(within: Command, tmp_path: Path) -> None:
    (tmp_path / "outputs").symlink_to(tmp_path / "missing")
    done = within(*SMALL)
    assert (done.returncode, "outputs is a broken link. Name another place" in done.stderr) == (
        2,
        True,
    )
    assert "writable" in within("doctor").stdout
    assert "it is a broken link" in " ".join(within("doctor").stdout.split())
