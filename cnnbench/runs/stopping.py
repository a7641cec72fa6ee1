"""Signals while a run trains: noted, so that the step is finished and saved before the run ends."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

__all__ = ["SIGTERM_CODE", "Preempted", "Stopping", "end", "preemption_signal"]

SIGTERM_CODE = 143


def end(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM outside training: as Ctrl-C, by an exception."""
    raise SystemExit(SIGTERM_CODE)


class Preempted(SystemExit):
    """The run has ended because a scheduler wants the machine back, and means to start it again."""


class Stopping:
    """While it is entered, the first signal is only noted, and a SIGINT after it ends the run at once.

    After that one more SIGINT kills the process: files are replaced whole, so nothing on disk is harmed.
    Noted are SIGINT, SIGTERM and, in a job of a scheduler, its `preemption_signal`, also after a SIGTERM.
    """

    def __init__(self, *, told: bool = True) -> None:
        """`told`: whether a person is told what becomes of a signal, as one of several processes does for all."""
        self.told = told
        self.signal: int | None = None
        self.at_once = False
        self._raises = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():  # only there can signals be handled
            for number in (signal.SIGINT, signal.SIGTERM, preemption_signal()):
                if number is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, SystemExit):
            self.check()  # again: the scheduler's signal may have come since

    def check(self) -> None:
        """End the run if a signal has asked for it: with KeyboardInterrupt, SystemExit for SIGTERM, or Preempted."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise (SystemExit if self.signal == signal.SIGTERM else Preempted)(SIGTERM_CODE)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """For what can be broken off anywhere and done again, such as an evaluation: a signal ends it at once."""
        self._raises = True
        try:
            self.check()
            yield
        finally:
            self._raises = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            if number != signal.SIGINT:  # schedulers repeat theirs, and send one after the other
                self.signal = number if self.signal == signal.SIGTERM else self.signal
                return
            self.at_once = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt
        self.signal = number
        if self.told:  # not by print: the signal may have come in the middle of one
            os.write(2, b"\ncnnbench: stopping after this step, with a checkpoint (once more: at once)\n")
        if self._raises:
            self.check()


def preemption_signal() -> int | None:
    """The signal by which a scheduler says that it wants the machine back: one that its library handles (submitit)."""
    return next((number for number in (signal.SIGUSR2, signal.SIGUSR1) if callable(signal.getsignal(number))), None)
