"""Signals while a run trains: the run finishes its step and saves a checkpoint before it ends."""

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
    "TimeLimitReached",
    "end",
    "end_on_signals",
    "preemption_signal",
    "print_from_handler",
]

SIGTERM_CODE = 143

# Signals that stop a run besides SIGINT. Schedulers send some of them before a time limit, and a
# terminal sends SIGHUP when it is closed.
_NAMES = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM", "SIGPWR")
STOP_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


def end(number: int, frame: FrameType | None) -> None:
    """Raise SystemExit with the exit code that shells have for the signal."""
    raise SystemExit(128 + number)


def end_with_notice(number: int, frame: FrameType | None) -> None:
    """Print a line on stderr and raise SystemExit."""
    print_from_handler("cnnbench: terminated")
    end(number, frame)


@contextmanager
def end_on_signals() -> Iterator[None]:
    """Raise SystemExit in the block at those of STOP_SIGNALS that would kill the process."""
    fatal = [number for number in STOP_SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    for number in fatal:
        signal.signal(number, end_with_notice)
    try:
        yield
    finally:
        for number in fatal:
            signal.signal(number, signal.SIG_DFL)


def print_from_handler(line: str) -> None:
    """Print a line on stderr from a signal handler, which may interrupt another print."""
    with suppress(OSError):  # stderr may be closed
        os.write(2, f"{line}\n".encode())


class Preempted(SystemExit):
    """The end of a run that a scheduler preempts, to start it again later."""


class TimeLimitReached(SystemExit):
    """The end of a run after train.max_minutes. It is saved, and the exit code is 0.

    `history` is its TrainingHistory.
    """

    def __init__(self, history: Any) -> None:
        super().__init__(0)
        self.history = history


class SignalGuard:
    """Record the first signal in the block. A SIGINT after it ends the run at once.

    One more SIGINT kills the process, which harms no file, as files are replaced as a whole.

    The recorded signals are SIGINT, SIGTERM and those of STOP_SIGNALS that would end the process.
    Ignored signals stay ignored, as with nohup. In a job of a scheduler its `preemption_signal` is
    recorded too, even after a SIGTERM. `suspended` becomes true when the process continues after
    Ctrl-Z or SIGSTOP. With `prints_notice` the first signal prints a line, which only rank 0 needs.
    """

    def __init__(self, *, prints_notice: bool = True) -> None:
        self.prints_notice = prints_notice
        self.signal: int | None = None
        self.at_once = False
        self.suspended = False
        self._is_interruptible = False
        self._preemption: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "SignalGuard":
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._preemption = preemption_signal()
            wanted = {signal.SIGINT, signal.SIGTERM, self._preemption}
            for number in (signal.SIGINT, *STOP_SIGNALS):
                handler = signal.getsignal(number)
                if number in wanted or handler == signal.SIG_DFL or _is_cnnbench_handler(handler):
                    self._before[number] = signal.signal(number, self._record)
            if signal.getsignal(signal.SIGCONT) == signal.SIG_DFL:
                self._before[signal.SIGCONT] = signal.signal(
                    signal.SIGCONT, self._record_suspension
                )
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, SystemExit):
            self.check()  # the signal of the scheduler may have come since the last check

    def check(self) -> None:
        """Raise KeyboardInterrupt, SystemExit or Preempted if a signal was recorded."""
        if self.signal is None:
            return
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal == self._preemption:
            raise Preempted(SIGTERM_CODE)
        raise SystemExit(128 + self.signal)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let signals end the block at once, which must be repeatable, such as an evaluation."""
        self._is_interruptible = True
        try:
            self.check()
            yield
        finally:
            self._is_interruptible = False

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            if number == signal.SIGINT:
                self.at_once = True
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                raise KeyboardInterrupt
            if number == self._preemption and self.signal != signal.SIGINT:
                self.signal = number  # schedulers repeat signals, and send several kinds
            return
        self.signal = number
        if self.prints_notice:
            print_from_handler(
                "\ncnnbench: stopping after this step, with a checkpoint (once more: at once)"
            )
        if self._is_interruptible:
            self.check()

    def _record_suspension(self, number: int, frame: FrameType | None) -> None:
        self.suspended = True


def preemption_signal() -> int | None:
    """Return the signal that announces a preemption, which submitit handles; or None."""
    for number in (signal.SIGUSR2, signal.SIGUSR1):
        handler = signal.getsignal(number)
        if callable(handler) and not _is_cnnbench_handler(handler):
            return number
    return None


def _is_cnnbench_handler(handler: Any) -> bool:
    """Return whether a signal handler belongs to cnnbench."""
    return str(getattr(handler, "__module__", None)).startswith("cnnbench.")
