"""A module that Python runs at its start, to send a signal to a job of submitit.

The job runs the shell command $STRIKE once, in its sixth step, and waits for a signal. If the
command fails, it does not wait.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

STEP = 6
SIGNALS = {signal.SIGTERM, signal.SIGUSR2}


def _run_in_step(command: str) -> None:
    from cnnbench.cli import hydra_app  # noqa: F401  # before torch, as in any job
    from cnnbench.training.engine import EagerEngine

    train_step, steps = EagerEngine.train_step, 0

    def counted(self: EagerEngine, *values: Any, **keywords: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == STEP:
            _run_and_wait_for_signal(command)
        return train_step(self, *values, **keywords)

    EagerEngine.train_step = counted  # type: ignore[method-assign]


def _run_and_wait_for_signal(command: str) -> None:
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    receiver.settimeout(60)
    before = signal.set_wakeup_fd(sender.fileno())
    if subprocess.run(command, shell=True, check=False).returncode == 0:
        while receiver.recv(1)[0] not in SIGNALS:
            pass
    signal.set_wakeup_fd(before)


if "STRIKE" in os.environ and "submitit.core._submit" in sys.orig_argv:
    job = os.environ.get("SLURM_JOB_ID") or os.environ["SUBMITIT_LOCAL_JOB_ID"]
    try:
        Path(f"{job}.struck").touch(exist_ok=False)
    except FileExistsError:
        pass
    else:
        _run_in_step(os.environ["STRIKE"])
