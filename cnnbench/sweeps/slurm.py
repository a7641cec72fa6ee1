"""What becomes of a stopped job that submitit has started: Slurm starts it again, or it has ended."""

import logging
import os
import re
import signal
import subprocess

from cnnbench.runs.signals import STOP_SIGNALS, Preempted, preemption_signal

__all__ = ["end_or_restart"]

log = logging.getLogger("cnnbench")


def end_or_restart(stop: KeyboardInterrupt | SystemExit) -> None:
    """Call it when the run is saved. Returns if the job has ended, so that whoever waits for it hears of that.

    Raises:
        SystemExit: it will be started again.
        KeyboardInterrupt, SystemExit: `stop`, where it is not submitit that has started this process.
    """
    number = preemption_signal()
    codes = [128 + each for each in STOP_SIGNALS]
    if number is None or (isinstance(stop, SystemExit) and stop.code not in codes):
        raise stop  # also where submitit's handler was not kept from ending the process, as the run had not begun
    if isinstance(stop, Preempted) or _in_grace_time():
        restart = signal.getsignal(number)
        assert callable(restart)
        try:
            restart(
                number, None
            )  # submitit's: asks Slurm to start the job again, and ends the process
        except Exception as error:  # it has been started too often, or Slurm has decided by itself
            log.info(str(error))
    restarts = re.search(r"\bRestarts=(\d+)", _show_job())
    if restarts and int(restarts[1]) > int(os.environ.get("SLURM_RESTART_COUNT", 0)):
        raise stop


def _in_grace_time() -> bool:
    """Whether Slurm gives the job, which it preempts, time to end. It does not start again what uses that time."""
    told = _show_job()
    return "JobState=RUNNING" in told and re.search(r"\bPreemptTime=\d", told) is not None


def _show_job() -> str:
    """What Slurm says of this job; nothing where there is no Slurm."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return ""
    if (
        "SLURM_ARRAY_TASK_ID" in os.environ
    ):  # the other name of the last job of an array means the whole array
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    command = ["scontrol", "show", "job", "--oneliner", job]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        return done.stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""
