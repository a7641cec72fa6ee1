"""Signals while a run trains: noted, so that the step is finished and saved before the run ends."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

__all__ = [
    "SIGTERM_CODE",
    "STOP_SIGNALS",
    "Preempted",
    "SignalGuard",
    "end",
    "end_on_signals",
    "preemption_signal",
    "print_from_handler",
]

SIGTERM_CODE = 143

# Beside SIGINT. Schedulers send several of these before a time limit, a terminal SIGHUP at its end.
_NAMES = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM", "SIGPWR")
STOP_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


def end(number: int, frame: FrameType | None) -> None:
    """Raise SystemExit, as Ctrl-C raises KeyboardInterrupt. The exit code is that of shells."""
    raise SystemExit(128 + number)


def end_with_notice(number: int, frame: FrameType | None) -> None:
    """End as `end` does, with a line on stderr."""
    print_from_handler("cnnbench: terminated")
    end(number, frame)


@contextmanager
def end_on_signals() -> Iterator[None]:
    """End the block by SystemExit at each of STOP_SIGNALS that would kill the process."""
    fatal = [number for number in STOP_SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    for number in fatal:
        signal.signal(number, end_with_notice)
    try:
        yield
    finally:
        for number in fatal:
            signal.signal(number, signal.SIG_DFL)


def print_from_handler(line: str) -> None:
    """Print a line on stderr from the handler of a signal, which may interrupt a print."""
    with suppress(OSError):  # nobody reads on
        os.write(2, f"{line}\n".encode())


class Preempted(SystemExit):
    """The run has ended because a scheduler wants the machine back, and means to start it again."""


class SignalGuard:
    """While it is entered, the first signal is only noted, and a SIGINT after it ends the run at once.

    After that one more SIGINT kills the process: files are replaced whole, so nothing on disk is harmed.
    Noted are SIGINT, SIGTERM and others of STOP_SIGNALS that would end the process. Ignored ones, as
    by nohup, stay ignored. In a job of a scheduler its `preemption_signal` is noted, also after a
    SIGTERM. `suspended` becomes true when the process was suspended (Ctrl-Z, SIGSTOP) and goes on.
    With `prints_notice` the first signal prints a line, as one of several processes does for all.
    """

    def __init__(self, *, prints_notice: bool = True) -> None:
        self.prints_notice = prints_notice
        self.signal: int | None = None
        self.at_once = False
        self.suspended = False
        self._raises = False
        self._preemption: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "SignalGuard":
        if (
            threading.current_thread() is threading.main_thread()
        ):  # only there can signals be handled
            self._preemption = preemption_signal()
            wanted = {signal.SIGINT, signal.SIGTERM, self._preemption}
            for number in (signal.SIGINT, *STOP_SIGNALS):
                handler = signal.getsignal(number)
                if number in wanted or handler == signal.SIG_DFL or _is_own(handler):
                    self._before[number] = signal.signal(number, self._note)
            if signal.getsignal(signal.SIGCONT) == signal.SIG_DFL:
                self._before[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._note_suspension)
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, SystemExit):
            self.check()  # again: the scheduler's signal may have come since

    def check(self) -> None:
        """End the run if a signal asked for it: by KeyboardInterrupt, SystemExit or Preempted."""
        if self.signal is None:
            return
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal == self._preemption:
            raise Preempted(SIGTERM_CODE)
        raise SystemExit(128 + self.signal)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """For what can be broken off anywhere and done again, such as an evaluation: a signal ends it at once."""
        self._raises = True
        try:
            self.check()
            yield
        finally:
            self._raises = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            if number == signal.SIGINT:
                self.at_once = True
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                raise KeyboardInterrupt
            if number == self._preemption and self.signal != signal.SIGINT:
                self.signal = number  # schedulers repeat theirs, and send one after the other
            return
        self.signal = number
        if self.prints_notice:
            print_from_handler(
                "\ncnnbench: stopping after this step, with a checkpoint (once more: at once)"
            )
        if self._raises:
            self.check()

    def _note_suspension(self, number: int, frame: FrameType | None) -> None:
        self.suspended = True


def preemption_signal() -> int | None:
    """The signal by which a scheduler says that it wants the machine back: one that its library handles (submitit)."""
    for number in (signal.SIGUSR2, signal.SIGUSR1):
        handler = signal.getsignal(number)
        if callable(handler) and not _is_own(handler):
            return number
    return None


def _is_own(handler: Any) -> bool:
    """Return whether a handler of a signal is one of cnnbench's."""
    return str(getattr(handler, "__module__", None)).startswith("cnnbench.")
