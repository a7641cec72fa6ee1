"""The lock on a run directory: one holder, known by name, gone with its process."""

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


def test_of_two_one_gets_it_and_the_other_after_its_release(path: Path) -> None:
    first, second = Lock(path), Lock(path)
    assert [first.acquire(), second.acquire()] == [True, False]
    first.release()
    assert second.acquire()


def test_it_names_a_new_holder_whose_number_is_shorter(path: Path) -> None:
    path.write_text("process 123456789 on a-machine-with-a-long-name-that-must-not-remain")
    lock = Lock(path)
    lock.acquire()
    assert lock.holder() == f"process {os.getpid()} on {socket.gethostname()}"


def test_is_held_says_whether_it_is(path: Path) -> None:
    lock, reader = Lock(path), Lock(path)
    before = reader.is_held()
    lock.acquire()
    during = reader.is_held()
    lock.release()
    assert (before, during, reader.is_held()) == (False, True, False)


def test_looking_makes_no_file(path: Path) -> None:
    Lock(path).is_held()
    assert not path.exists()


def test_it_dies_with_a_process_that_is_killed(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    held = Lock(path).is_held()
    process.kill()
    process.communicate()
    assert (held, Lock(path).is_held(), Lock(path).acquire()) == (True, False, True)


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    path.symlink_to(outside)
    with pytest.raises(OSError, match="symbolic link"):
        Lock(path).acquire()
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO], ids=errno.errorcode.get)
def test_without_locks_everyone_is_let_in_and_nobody_knows_whether_it_is_held(
    number: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert Lock(path).acquire()
    assert Lock(path).is_held() is None
