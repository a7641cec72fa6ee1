"""Signals at exact moments of a command: it sends them to itself, as those from outside may come anywhere.

A strike is the signal, what it waits for, and the how-many-eth of these. With `file` a kill falls between any two
changes of the disk: before a file is opened for writing, renamed or removed, or a folder made, in whatever thread.
`checkpoint` counts those of checkpoints alone. SIGXFSZ comes later than asked for: once 100 bytes of a file are
written, so that it kills in the middle of writing.
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
    """Have this process strike itself; files count if they are below the current folder."""
    counts: Counter[str] = Counter()
    folder = Path.cwd()

    def happens(what: str) -> None:
        counts[what] += 1
        for number, at, count in faults:
            if (at, count) == (what, counts[what]):
                _strike(number)

    def heard(event: str, values: tuple[Any, ...]) -> None:
        if event in CHANGES or (
            event == "open" and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            path = Path(
                "/dev/fd" if isinstance(values[0], int) else os.fsdecode(values[0])
            ).absolute()
            if path.is_relative_to(folder):
                happens("file")
                if ".pt" in path.suffixes:
                    happens("checkpoint")

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
    for _, what, _ in faults:
        if what in METHODS:
            _announce(what, happens)
    sys.addaudithook(heard)


def _strike(number: int) -> None:
    if number == signal.SIGXFSZ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    else:
        os.kill(os.getpid(), number)


def _announce(what: str, happens: Callable[[str], None]) -> None:
    module, kind, name = METHODS[what]
    owner = getattr(importlib.import_module(module), kind)
    method = getattr(owner, name)

    @functools.wraps(method)
    def announced(*values: Any, **more: Any) -> Any:
        happens(what)
        return method(*values, **more)

    setattr(owner, name, announced)
