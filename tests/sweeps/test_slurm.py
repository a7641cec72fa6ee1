"""What becomes of a job that was stopped, by what Slurm says of it; scontrol is a script that says what it is told to.

tests/sweeps/test_slurm_cluster.py asks a Slurm that runs.
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
    """Raised in place of the end of the process."""


@pytest.fixture(autouse=True)
def _handler_as_it_was() -> Iterator[None]:
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
    """A job of Slurm's, with the id 7."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = folder / "asked"
        self._answer = folder / "answer"
        script = folder / "scontrol"
        script.write_text(f"#!/bin/sh\necho $@ > {self.asked}\ncat {self._answer}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "7")

    def says(self, text: str) -> None:
        self._answer.write_text(text)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _submitit: None) -> Slurm:
    return Slurm(tmp_path, monkeypatch)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), TERMINATED])
def test_without_a_scheduler_the_process_ends_as_it_was_about_to(
    stop: KeyboardInterrupt | SystemExit,
) -> None:
    with pytest.raises(type(stop)) as ended:
        end_or_restart(stop)
    assert ended.value is stop


@pytest.mark.usefixtures("_submitit")
def test_a_preempted_job_is_handed_over_to_submitit() -> None:
    with pytest.raises(Restarted):
        end_or_restart(Preempted(143))


@pytest.mark.usefixtures("_submitit")
def test_a_terminated_job_has_ended_where_there_is_no_slurm() -> None:
    end_or_restart(TERMINATED)


def test_a_terminated_job_that_slurm_preempts_is_handed_over_to_submitit(slurm: Slurm) -> None:
    slurm.says(IN_GRACE_TIME)
    with pytest.raises(Restarted):
        end_or_restart(TERMINATED)


@pytest.mark.parametrize("answer", [RUNNING, "JobId=7 JobState=CANCELLED Restarts=0", ""])
def test_a_terminated_job_that_slurm_does_not_preempt_has_ended(slurm: Slurm, answer: str) -> None:
    slurm.says(answer)
    end_or_restart(TERMINATED)


def test_a_job_that_was_queued_again_before_has_ended_all_the_same(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.says("JobId=7 JobState=CANCELLED Restarts=1")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    end_or_restart(TERMINATED)


@pytest.mark.parametrize(
    ("answer", "ending"),
    [(REQUEUED, TERMINATED), (RUNNING, SystemExit(-1))],
    ids=["queued again", "ended by submitit before the run began"],
)
def test_a_job_without_a_result_ends_as_it_was_about_to(
    slurm: Slurm, answer: str, ending: SystemExit
) -> None:
    slurm.says(answer)
    with pytest.raises(SystemExit) as ended:
        end_or_restart(ending)
    assert ended.value is ending


def test_a_job_that_submitit_does_not_start_again_has_ended(slurm: Slurm) -> None:
    def refuse(number: int, frame: object) -> None:
        raise RuntimeError("timed-out too many times")

    signal.signal(signal.SIGUSR2, refuse)
    slurm.says(RUNNING)
    end_or_restart(Preempted(143))


def test_of_an_array_slurm_is_asked_for_this_job_alone(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    slurm.says(RUNNING)
    end_or_restart(TERMINATED)
    assert slurm.asked.read_text().split()[-1] == "7_3"
