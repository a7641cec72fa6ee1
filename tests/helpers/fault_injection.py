"""Signals at exact moments of a command, which sends them to itself.

A fault is a signal, a kind of event, and the number of the event at which the signal is sent. The
event `file` is any change of the disk: before a file is opened for writing, renamed or removed, or
a folder is made, in any thread. The event `checkpoint` counts only changes to checkpoints. SIGXFSZ
is sent later, after 100 bytes of a file are written, so that it kills while a file is written.
"""

import functools
import importlib
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Fault", "inject_faults"]

Fault = tuple[int, str, int]

METHODS = {
    "step": ("cnnbench.training.engine", "EagerEngine", "train_step"),
    "evaluation": ("cnnbench.training.engine", "EagerEngine", "evaluate_step"),
    "save": ("cnnbench.training.checkpoint", "CheckpointManager", "save"),
}
CHANGES = {"os.rename", "os.remove", "os.mkdir"}


def inject_faults(faults: Sequence[Fault]) -> None:
    """Make this process send itself signals. Only files below the current folder count."""
    counts: Counter[str] = Counter()
    folder = Path.cwd()

    def count_event(event: str) -> None:
        counts[event] += 1
        for number, awaited, count in faults:
            if (awaited, count) == (event, counts[event]):
                _send_signal(number)

    def audit(name: str, values: tuple[Any, ...]) -> None:
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if name in CHANGES or (name == "open" and values[2] & writes):
            file = "/dev/fd" if isinstance(values[0], int) else os.fsdecode(values[0])
            path = Path(file).absolute()
            if path.is_relative_to(folder):
                count_event("file")
                if ".pt" in path.suffixes:
                    count_event("checkpoint")

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it by default
    for _, event, _ in faults:
        if event in METHODS:
            _count_calls(event, count_event)
    sys.addaudithook(audit)


def _send_signal(number: int) -> None:
    if number == signal.SIGXFSZ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    else:
        os.kill(os.getpid(), number)


def _count_calls(event: str, count_event: Callable[[str], None]) -> None:
    module, kind, name = METHODS[event]
    owner = getattr(importlib.import_module(module), kind)
    method = getattr(owner, name)

    @functools.wraps(method)
    def counted(*values: Any, **keywords: Any) -> Any:
        count_event(event)
        return method(*values, **keywords)

    setattr(owner, name, counted)
