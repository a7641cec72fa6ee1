"""A tracker at work in a thread of its own: whatever becomes of it, the run goes on."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

__all__ = ["Row", "Told", "Tracker", "TrackerError", "Worker", "finish"]

END_S = 20.0  # that trackers are given at the end of a run: MLflow takes some to start where disks are slow
SILENT_S = 2.0  # of these before it is said what is waited for
LONGEST = 300  # characters of a reason; MLflow's hold whole addresses

Row = Mapping[str, float]


@dataclass(frozen=True)
class Told:
    """What a tracker is told of a run that begins, or goes on.

    `parameters` is the flattened configuration, `configuration` the same as YAML; `rows` are those of metrics.csv of
    the epochs that are finished already, each with the time it ended at, in seconds since 1970. Such times, and
    `began_at`, are those of a run that was never interrupted.
    """

    directory: Path
    began_at: float
    parameters: Mapping[str, int | float | str]
    configuration: str
    tags: Mapping[str, str]
    rows: Sequence[tuple[Row, float]]


class TrackerError(Exception):
    """A tracker's failure, in words for people; any other exception is told with its type."""


class Tracker(Protocol):
    """What a worker calls, in this order. All of it may raise anything, and may take as long as it takes."""

    def start(self, told: Told) -> None: ...

    def epoch(self, row: Row, ended_at: float) -> None:
        """A row of metrics.csv, and the time its epoch ended at."""

    def result(self, figures: Mapping[str, float], epoch: int) -> None:
        """The final figures of a run that has finished its last `epoch`; curves.png and result.json are written."""

    def end(self, state: str) -> None:
        """The run is finished, interrupted or failed."""

    def close(self) -> None:
        """Let go of everything, whatever came before."""

    def abandon(self) -> None:
        """Called from another thread: break off what is waited for."""


class Worker:
    """Has a tracker do what it is given, one after the other, in a daemon thread.

    What the tracker raises is told once, by `tell`, and ends its work.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], tell: Callable[[str], None]) -> None:
        self.name = name
        self._make = make
        self._tell = tell
        self._tracker: Tracker | None = None
        self._at = "the start"
        self._off = False
        self._given: SimpleQueue[tuple[str, str, tuple[Any, ...]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the system gives no more threads
            self._fail(error)

    def give(self, what: str, method: str, *values: Any) -> None:
        """Have the tracker's `method` called with plain values; `what` names them for people."""
        self._given.put((what, method, values))

    def join(self, wait_s: float) -> bool:
        """Whether the tracker has done all that it was given, or failed, after `wait_s` seconds at most."""
        if self._thread.is_alive():
            self._thread.join(max(0.0, wait_s))
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """If the tracker is still at work, say what it was at, and leave it to itself."""
        if self._thread.is_alive():
            self._turn_off(f"is left at {self._at}: the rest of the run is not delivered to it.")
            with suppress(Exception):  # that is told already
                if self._tracker is not None:
                    self._tracker.abandon()

    def _work(self) -> None:
        try:
            self._tracker = self._make()
            method = ""
            while method != "end":
                self._at, method, values = self._given.get()
                getattr(self._tracker, method)(*values)
        except BaseException as error:  # also what a library may mean by SystemExit
            self._fail(error)
        try:
            if self._tracker is not None:
                self._tracker.close()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        reason = str(error) if isinstance(error, TrackerError) else f"{type(error).__name__}: {error}"
        self._turn_off(f"failed at {self._at}, and the run goes on without it: {reason[:LONGEST]}")

    def _turn_off(self, what: str) -> None:
        """Tell what became of the tracker, unless something is told already."""
        if not self._off:
            self._off = True
            self._tell(f"The tracker {self.name} {what}")


def finish(workers: Sequence[Worker], say: Callable[[str], None]) -> None:
    """Wait END_S at most until all have done what they were given; an interruption ends the waiting."""
    began = time.monotonic()
    try:
        for until_s in (SILENT_S, END_S):
            late = [each.name for each in workers if not each.join(began + until_s - time.monotonic())]
            if late and until_s < END_S:
                say(f"Waiting for {' and '.join(late)}, {END_S:.0f} s at most.")
    finally:
        for worker in workers:
            worker.give_up()
