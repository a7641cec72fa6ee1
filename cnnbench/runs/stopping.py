"""SIGINT and SIGTERM while a run trains: noted, so that the step is finished and saved before the run ends."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

__all__ = ["SIGTERM_CODE", "Stopping", "end"]

SIGTERM_CODE = 143


def end(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM outside training: as Ctrl-C, by an exception."""
    raise SystemExit(SIGTERM_CODE)


class Stopping:
    """While it is entered, the first signal is only noted, and a SIGINT after it ends the run at once.

    After that one more SIGINT kills the process: files are replaced whole, so nothing on disk is harmed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_once = False
        self._raises = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():  # only there can signals be handled
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """End the run if a signal has asked for it: with KeyboardInterrupt or, for SIGTERM, SystemExit."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal == signal.SIGTERM:
            raise SystemExit(SIGTERM_CODE)

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
            if number == signal.SIGTERM:
                return  # schedulers repeat it: to the process and to its group
            self.at_once = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt
        self.signal = number
        # not print: the signal may have come in the middle of one
        os.write(2, b"\ncnnbench: stopping after this step, with a checkpoint (once more: at once)\n")
        if self._raises:
            self.check()
