"""File systems that cannot sync or lock, that fail or are slow: a run goes on and loses nothing."""

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

from cnnbench.runs import directory

WARNING = "may not be on disk: Input/output error"

Disk = Callable[..., None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Call as disk(errno.EIO, files=True): folders, and files too, can no longer be synced or locked."""
    monkeypatch.setattr(directory, "_warned", False)

    def become(number: int, *, files: bool) -> None:
        def refuse(descriptor: int, kind: int = 0) -> None:
            if files or stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)
        monkeypatch.setattr(fcntl, "flock", refuse)

    return become


def trained_and_resumed(within: Command) -> str:
    """Train for two epochs and resume for a third; returns what was printed."""
    done = within(*SMALL, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    resumed = within("resume", "run", "train.epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    return done.stdout + done.stderr + resumed.stdout + resumed.stderr


@pytest.mark.parametrize("files", [False, True], ids=["folders", "all"])
@pytest.mark.parametrize(("number", "warnings"), [(errno.EINVAL, 0), (errno.EIO, 1)])
def test_a_disk_that_cannot_sync_ends_no_run_and_one_that_fails_is_warned_of_once(
    number: int, warnings: int, files: bool, disk: Disk, within: Command, runs: Runs, tmp_path: Path
) -> None:
    disk(number, files=files)
    said = trained_and_resumed(within)
    log = (tmp_path / "run" / "train.log").read_text()
    assert [text.count("may not be on disk") for text in (said, log)] == [warnings] * 2
    assert os.strerror(number) not in said or warnings
    assert find_differences(tmp_path / "run", runs.uninterrupted("finished")) == []


def test_commands_that_log_nothing_warn_of_a_failing_disk_too(
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


def test_other_errors_of_a_sync_end_no_run_either(disk: Disk, within: Command) -> None:
    disk(errno.EACCES, files=True)
    printed = trained_and_resumed(within)
    assert printed.count("may not be on disk: ") == 1, printed


def test_a_full_disk_ends_a_run_though_it_is_told_by_a_sync(disk: Disk, within: Command) -> None:
    disk(errno.ENOSPC, files=True)
    done = within(*SMALL, "hydra.run.dir=run")
    assert (done.returncode, "No space left on device" in done.stderr) == (2, True), done.stderr


def test_a_link_to_a_disk_that_is_not_there_is_named_as_that(
    within: Command, tmp_path: Path
) -> None:
    (tmp_path / "outputs").symlink_to(tmp_path / "missing")
    done = within(*SMALL)
    assert (done.returncode, "outputs is a link to nothing. Name another place" in done.stderr) == (
        2,
        True,
    )
    assert "writable" in within("doctor").stdout
    assert "it is a link to nothing" in " ".join(within("doctor").stdout.split())
