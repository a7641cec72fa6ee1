"""The end of a stopped job, with a script in place of scontrol.

tests/sweeps/test_slurm_cluster.py uses a running Slurm.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnbench.runs.signals import Preempted
from cnnbench.sweeps.slurm import end_or_restart

TERMINATED = SystemExit(143)
IN_GRACE_TIME = "JobId=7 JobState=RUNNING Restarts=0 PreemptTime=2026-11-24T18:00:55"
RUNNING = "JobId=7 JobState=RUNNING Restarts=0 PreemptTime=None"
REQUEUED = "JobId=7 JobState=COMPLETING Restarts=1"


class Restarted(BaseException):
    """A restart by submitit, in place of the end of the process."""


@pytest.fixture(autouse=True)
def _restore_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, before)


@pytest.fixture(autouse=True)
def _no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def _submitit() -> None:
    def restart(number: int, frame: object) -> None:
        raise Restarted

    signal.signal(signal.SIGUSR2, restart)


class Slurm:
    """A job of Slurm with the id 7."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = folder / "asked"
        self._answer = folder / "answer"
        script = folder / "scontrol"
        script.write_text(f"#!/bin/sh\necho $@ > {self.asked}\ncat {self._answer}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "7")

    def set_answer(self, text: str) -> None:
        self._answer.write_text(text)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _submitit: None) -> Slurm:
    return Slurm(tmp_path, monkeypatch)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), TERMINATED])
def test_without_a_scheduler_the_stop_is_raised(
    stop: KeyboardInterrupt | SystemExit,
) -> None:
    with pytest.raises(type(stop)) as ended:
        end_or_restart(stop)
    assert ended.value is stop


@pytest.mark.usefixtures("_submitit")
def test_submitit_restarts_a_preempted_job() -> None:
    with pytest.raises(Restarted):
        end_or_restart(Preempted(143))


@pytest.mark.usefixtures("_submitit")
def test_without_slurm_a_terminated_job_has_ended() -> None:
    end_or_restart(TERMINATED)


def test_submitit_restarts_a_job_terminated_in_its_grace_time(slurm: Slurm) -> None:
    slurm.set_answer(IN_GRACE_TIME)
    with pytest.raises(Restarted):
        end_or_restart(TERMINATED)


@pytest.mark.parametrize("answer", [RUNNING, "JobId=7 JobState=CANCELLED Restarts=0", ""])
def test_terminated_job_without_preemption_has_ended(slurm: Slurm, answer: str) -> None:
    slurm.set_answer(answer)
    end_or_restart(TERMINATED)


def test_terminated_job_with_an_earlier_restart_has_ended(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.set_answer("JobId=7 JobState=CANCELLED Restarts=1")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    end_or_restart(TERMINATED)


@pytest.mark.parametrize(
    ("answer", "ending"),
    [(REQUEUED, TERMINATED), (RUNNING, SystemExit(-1))],
    ids=["queued again", "ended by submitit before the run began"],
)
def test_stop_of_a_job_without_a_result_is_raised(
    slurm: Slurm, answer: str, ending: SystemExit
) -> None:
    slurm.set_answer(answer)
    with pytest.raises(SystemExit) as ended:
        end_or_restart(ending)
    assert ended.value is ending


def test_job_that_submitit_does_not_restart_has_ended(slurm: Slurm) -> None:
    def refuse(number: int, frame: object) -> None:
        raise RuntimeError("timed-out too many times")

    signal.signal(signal.SIGUSR2, refuse)
    slurm.set_answer(RUNNING)
    end_or_restart(Preempted(143))


def test_job_of_an_array_has_its_task_id(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    slurm.set_answer(RUNNING)
    end_or_restart(TERMINATED)
    assert slurm.asked.read_text().split()[-1] == "7_3"
