"""The end of a stopped job that submitit has started: Slurm restarts it, or it has ended."""

import logging
import os
import re
import signal
import subprocess

from cnnbench.runs.signals import STOP_SIGNALS, Preempted, preemption_signal

__all__ = ["end_or_restart"]

log = logging.getLogger("cnnbench")


def end_or_restart(stop: KeyboardInterrupt | SystemExit) -> None:
    """Restart a stopped job of submitit if Slurm wants that; return if the job has ended.

    Call this when the run is saved. After the return submitit reports the result of the job.

    Raises:
        SystemExit: Slurm will restart the job.
        KeyboardInterrupt, SystemExit: `stop`, if submitit has not started this process.
    """
    number = preemption_signal()
    codes = [128 + stop_signal for stop_signal in STOP_SIGNALS]
    # Other codes are from the handler of submitit, if the signal came before the run began.
    if number is None or (isinstance(stop, SystemExit) and stop.code not in codes):
        raise stop
    if isinstance(stop, Preempted) or _in_grace_time():
        restart = signal.getsignal(number)
        assert callable(restart)
        try:
            restart(number, None)  # submitit asks Slurm to restart the job, and ends the process
        except Exception as error:  # too many restarts, or Slurm has already decided
            log.info(str(error))
    restarts = re.search(r"\bRestarts=(\d+)", _show_job())
    if restarts and int(restarts[1]) > int(os.environ.get("SLURM_RESTART_COUNT", 0)):
        raise stop


def _in_grace_time() -> bool:
    """Return whether Slurm preempts the job and gives it time to end.

    Slurm itself does not restart a job that ends in this time.
    """
    job = _show_job()
    return "JobState=RUNNING" in job and re.search(r"\bPreemptTime=\d", job) is not None


def _show_job() -> str:
    """Return the description of this job by Slurm; "" without Slurm."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return ""
    # SLURM_JOB_ID of the last job of an array means the whole array.
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    command = ["scontrol", "show", "job", "--oneliner", job]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        return done.stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""
