"""Signals to a sweep with parallel jobs."""

import os
import signal
from pathlib import Path

import pytest

from cnnbench.runs.directory import LOCK
from cnnbench.runs.lock import Lock
from cnnbench.sweeps.signals import _terminate


def test_job_that_is_about_to_resume_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    lock = Lock(tmp_path / LOCK)
    assert lock.acquire()  # a job acquires it before its status is running
    _terminate(tmp_path)
    lock.release()
    _terminate(tmp_path)
    assert sent == [(os.getpid(), signal.SIGTERM)]
