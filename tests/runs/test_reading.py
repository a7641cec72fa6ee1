"""Run directories that may be in use, damaged, or untrusted."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cnnbench.errors import ConfigError
from cnnbench.runs.directory import claim
from cnnbench.runs.reading import (
    find_runs,
    list_runs,
    read_json,
    read_status,
    read_text,
    reject_escaping_links,
)

GONE = subprocess.run(
    [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
).stdout


def write_status(directory: Path, **values: Any) -> None:
    (directory / "status.json").write_text(json.dumps(values))


@pytest.mark.parametrize("recorded", [None, "finished", "interrupted", "failed"])
@pytest.mark.parametrize("is_held", [True, False])
def test_run_is_running_while_its_lock_is_held_and_then_as_recorded(
    tmp_path: Path, recorded: str | None, is_held: bool
) -> None:
    run = claim(tmp_path)
    assert run is not None
    if recorded is not None:
        write_status(tmp_path, state=recorded, error="x")
    if not is_held:
        run.release()
    status = read_status(tmp_path)
    run.release()
    assert status["state"] == ("running" if is_held else recorded or "interrupted")
    assert recorded is None or status["error"] == "x"


@pytest.mark.parametrize("content", ["{", "null", '{"state": 3}', '{"state": "finishfd"}'])
def test_run_with_a_damaged_status_is_interrupted(tmp_path: Path, content: str) -> None:
    (tmp_path / "status.json").write_text(content)
    assert read_status(tmp_path)["state"] == "interrupted"


@pytest.mark.parametrize(
    ("pid", "host", "state"),
    [
        (os.getpid(), socket.gethostname(), "running"),
        (int(GONE), socket.gethostname(), "interrupted"),
        (int(GONE), "elsewhere", "running"),
        ("x", socket.gethostname(), "running"),
        (10**30, socket.gethostname(), "interrupted"),
    ],
    ids=["alive", "gone", "on another machine", "no number", "no process"],
)
def test_state_depends_on_the_process_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: object, host: str, state: str
) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".lock").touch()
    write_status(tmp_path, state="running", pid=pid, host=host)
    assert read_status(tmp_path)["state"] == state


@pytest.mark.parametrize(
    ("number", "is_damaged"),
    [(errno.EACCES, False), (errno.ESTALE, False), (errno.EIO, True), (errno.ELOOP, True)],
)
def test_unreachable_status_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_damaged: bool
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr("cnnbench.runs.reading.Lock.is_held", lambda lock: False)
    with nullcontext() if is_damaged else pytest.raises(OSError, match=r"status\.json"):
        assert read_status(tmp_path)["state"] == "interrupted"


def test_error_of_a_read_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_status(tmp_path)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", refuse)
        with pytest.raises(OSError, match=r"status\.json"):
            read_text(tmp_path / "status.json")


def test_finds_a_run_and_the_runs_of_a_sweep(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        write_status(tmp_path / name)
    (tmp_path / "c").mkdir()
    (tmp_path / "linked").symlink_to("a")
    assert find_runs(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert find_runs(tmp_path / "a") == [tmp_path / "a"]


@pytest.mark.parametrize(
    ("name", "message"), [("", "holds no run"), ("nothing", "is not a directory")]
)
def test_folder_without_a_run_is_an_error(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_runs(tmp_path / name)


@pytest.mark.parametrize("name", ["train.log", "checkpoints/last.pt", ".hydra/config.yaml"])
@pytest.mark.parametrize("target", ["outside", "run/inside", "nothing"])
def test_escaping_links_are_refused_and_others_allowed(
    tmp_path: Path, name: str, target: str
) -> None:
    (tmp_path / "run").mkdir()
    for path in (tmp_path / "outside", tmp_path / "run" / "inside"):
        path.touch()
    link = tmp_path / "run" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / target)
    (tmp_path / "mine").symlink_to(tmp_path / "run")  # a link to the directory itself is followed
    is_inside = target == "run/inside"
    message = f"{name} is a link that leads out"
    for directory in (tmp_path / "run", tmp_path / "mine"):
        with nullcontext() if is_inside else pytest.raises(ConfigError, match=message):
            reject_escaping_links(directory)


def test_file_that_vanishes_is_no_escaping_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The temporary file of a running run may vanish.
    monkeypatch.setattr(
        "cnnbench.runs.reading.os.walk", lambda folder: [(str(folder), [], [".metrics.csv.7.tmp"])]
    )
    reject_escaping_links(tmp_path)


def test_too_long_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long").write_text("x" * (1 << 20) + "x")
    with pytest.raises(ValueError, match="longer than"):
        read_text(tmp_path / "long")


@pytest.mark.parametrize("content", [b"\xff", b"[1]", b"1", b"{", b"[" * 100_000])
def test_json_other_than_an_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "file")


@pytest.mark.parametrize(
    "status", ["{", "[]", '{"began": 3}', '{"since": "soon"}', '{"began": "0001-01-01T00:00"}']
)
def test_run_without_a_start_time_is_the_oldest(tmp_path: Path, status: str) -> None:
    for name, content in (("a", '{"since": "2026-11-24T10:00:00+00:00"}'), ("b", status)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text(content)
    assert list_runs(tmp_path) == [tmp_path / "b", tmp_path / "a"]
