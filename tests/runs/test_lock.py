"""The lock on a run directory: one holder, which is named, until its process ends."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cnnbench.runs.lock import Lock

HOLDS = """
import sys, time
from pathlib import Path
from cnnbench.runs.lock import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def test_second_process_acquires_the_lock_after_a_release(path: Path) -> None:
    first, second = Lock(path), Lock(path)
    assert [first.acquire(), second.acquire()] == [True, False]
    first.release()
    assert second.acquire()


def test_name_of_a_new_holder_replaces_a_longer_one(path: Path) -> None:
    path.write_text("process 123456789 on a-machine-with-a-long-name-that-must-not-remain")
    lock = Lock(path)
    lock.acquire()
    assert lock.holder() == f"process {os.getpid()} on {socket.gethostname()}"


def test_is_held_while_it_is_acquired(path: Path) -> None:
    lock, reader = Lock(path), Lock(path)
    before = reader.is_held()
    lock.acquire()
    during = reader.is_held()
    lock.release()
    assert (before, during, reader.is_held()) == (False, True, False)


def test_is_held_creates_no_file(path: Path) -> None:
    Lock(path).is_held()
    assert not path.exists()


def test_lock_is_released_when_its_process_is_killed(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    held = Lock(path).is_held()
    process.kill()
    process.communicate()
    assert (held, Lock(path).is_held(), Lock(path).acquire()) == (True, False, True)


def test_lock_follows_no_link(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    path.symlink_to(outside)
    with pytest.raises(OSError, match="symbolic link"):
        Lock(path).acquire()
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO], ids=errno.errorcode.get)
def test_acquire_succeeds_and_is_held_is_unknown_without_locks(
    number: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert Lock(path).acquire()
    assert Lock(path).is_held() is None
