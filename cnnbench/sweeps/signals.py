"""Signals to a sweep with parallel jobs: all jobs save a checkpoint and end."""

import os
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from cnnbench.errors import ConfigError
from cnnbench.runs.directory import LOCK
from cnnbench.runs.lock import Lock
from cnnbench.runs.reading import read_status
from cnnbench.runs.signals import STOP_SIGNALS, print_from_handler
from cnnbench.runs.sweep import stop

__all__ = ["stop_jobs_on_signal"]


@contextmanager
def stop_jobs_on_signal(
    directory: Path, names: Collection[str], is_parallel: bool
) -> Iterator[None]:
    """Stop all parallel jobs of a sweep at a signal to this process in the block.

    Each job saves a checkpoint, and the block waits for the jobs. A second SIGINT ends the block at
    once. Without `is_parallel` a signal only reaches the job in this process.

    Raises:
        ConfigError: a process that ran jobs was killed.
        KeyboardInterrupt, SystemExit: as the handlers of the signal raise.
    """
    signals: list[int] = []

    def stop_all(number: int, frame: FrameType | None) -> None:
        if signals and number != signal.SIGINT:
            return  # terminals and schedulers repeat signals
        if signals or not is_parallel:
            handlers[number](number, frame)
            return
        signals.append(number)
        print_from_handler(
            "\ncnnbench: stopping all jobs, with a checkpoint of each (once more: at once)"
        )
        stop(directory)
        for name in names:
            _terminate(directory / name)

    handlers: dict[int, Any] = {}
    for number in (signal.SIGINT, *STOP_SIGNALS):
        if callable(signal.getsignal(number)):  # signals that are ignored stay so, as with nohup
            handlers[number] = signal.signal(number, stop_all)
    try:
        yield
    except Exception as error:
        # After a signal this is only the error of joblib for the processes that have ended.
        if not signals:
            if type(error.__cause__).__name__ != "TerminatedWorkerError":
                raise
            raise ConfigError(
                "A process that ran jobs was killed, as systems do when memory is short; the "
                "others were ended with it. Lower hydra.launcher.n_jobs."
            ) from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if signals:
        handlers[signals[0]](signals[0], None)


def _terminate(run: Path) -> None:
    """Send SIGTERM to a job on this machine. A job that Ctrl-C has already reached ignores it.

    The lock names the process. A job that resumes holds the lock before its status is running.
    """
    lock = Lock(run / LOCK)
    with suppress(OSError, ValueError, KeyError, TypeError):
        if lock.is_held() is None:  # the file system has no locks
            status = read_status(run)
            is_running, process, host = status["state"] == "running", status["pid"], status["host"]
        else:
            is_running = bool(lock.is_held())
            process, _, host = lock.holder().removeprefix("process ").partition(" on ")
        if is_running and host == socket.gethostname() and int(process) > 1:
            os.kill(int(process), signal.SIGTERM)
