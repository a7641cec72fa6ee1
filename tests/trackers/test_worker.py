"""A worker does what it is given in order, tells one failure, and waits no longer than it may."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from cnnbench.trackers import worker
from cnnbench.trackers.worker import TrackerError, Worker, finish

METHODS = ("start", "epoch", "result", "end", "close")


class Tracker:
    """Notes what it is asked, and does what `does` has for a method."""

    def __init__(self, **does: Callable[[], object]) -> None:
        self.asked: list[Any] = []
        self._does = does

    def __getattr__(self, method: str) -> Callable[..., None]:
        def called(*values: object) -> None:
            self.asked.append((method, *values))
            self._does.get(method, lambda: None)()

        return called


def fail(error: BaseException) -> Callable[[], object]:
    def failing() -> object:
        raise error

    return failing


def worked(tracker: Tracker, tell: Callable[[str], None]) -> Worker:
    """A worker that has been given a whole run."""
    ours = Worker("mine", lambda: tracker, tell)  # type: ignore[arg-type, return-value]  # it has all methods there are
    for method in METHODS[:-1]:
        ours.give(f"its {method}", method, 1)
    return ours


def test_all_is_done_in_order_and_closed_at_the_end() -> None:
    tracker, told = Tracker(), list[str]()
    assert worked(tracker, told.append).join(10)
    assert (tracker.asked, told) == ([*((method, 1) for method in METHODS[:-1]), ("close",)], [])


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_in_any_method_is_told_once_with_what_it_was_at(method: str) -> None:
    tracker, told = Tracker(**{method: fail(OSError("no room"))}), list[str]()
    assert worked(tracker, told.append).join(10)
    at = "end" if method == "close" else method
    assert told == [f"The tracker mine failed at its {at}, and the run goes on without it: OSError: no room"]


@pytest.mark.parametrize("method", METHODS[:-1])
def test_after_a_failure_nothing_is_asked_but_to_close(method: str) -> None:
    tracker = Tracker(**{method: fail(OSError())}, close=fail(OSError()))
    assert worked(tracker, lambda text: None).join(10)
    assert [asked[0] for asked in tracker.asked] == [*METHODS[: METHODS.index(method) + 1], "close"]


def test_a_tracker_that_cannot_be_made_is_told() -> None:
    told: list[str] = []
    assert Worker("mine", fail(ImportError("no such thing")), told.append).join(10)  # type: ignore[arg-type]
    assert told == ["The tracker mine failed at the start, and the run goes on without it: ImportError: no such thing"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_would_end_a_program_ends_the_tracker_alone(error: BaseException) -> None:
    told: list[str] = []
    assert worked(Tracker(epoch=fail(error)), told.append).join(10)
    assert len(told) == 1


def test_a_failure_in_words_is_told_in_them_and_not_at_any_length() -> None:
    told: list[str] = []
    assert worked(Tracker(epoch=fail(TrackerError("x" * 10_000))), told.append).join(10)
    assert told[0].endswith("without it: " + "x" * worker.LONGEST)


def test_a_system_without_threads_costs_the_tracker_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda thread: fail(RuntimeError("can't start new thread"))())
    told: list[str] = []
    ours = worked(Tracker(), told.append)
    finish([ours], told.append)
    assert told == [
        "The tracker mine failed at the start, and the run goes on without it: RuntimeError: can't start new thread"
    ]


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What a tracker waits for that does not answer, and hardly any patience."""
    monkeypatch.setattr(worker, "END_S", 0.2)
    monkeypatch.setattr(worker, "SILENT_S", 0.1)
    return threading.Event()


def test_a_tracker_that_does_not_answer_is_left_with_what_it_was_at(release: threading.Event) -> None:
    tracker, told = Tracker(epoch=release.wait, abandon=release.set), list[str]()
    ours = worked(tracker, told.append)
    finish([ours], lambda text: None)
    assert told == ["The tracker mine is left at its epoch: the rest of the run is not delivered to it."]
    assert ("abandon",) in tracker.asked
    assert ours.join(10)


def test_what_comes_of_a_tracker_that_was_left_is_not_told(release: threading.Event) -> None:
    told: list[str] = []

    def fail_late() -> None:
        release.wait()
        raise OSError("broken off")

    ours = worked(Tracker(epoch=fail_late, abandon=release.set), told.append)
    finish([ours], lambda text: None)
    assert ours.join(10)
    assert len(told) == 1


def test_a_failure_of_breaking_off_is_no_matter(release: threading.Event) -> None:
    ours = worked(Tracker(epoch=release.wait, abandon=fail(OSError())), lambda text: None)
    finish([ours], lambda text: None)
    release.set()
    assert ours.join(10)


def test_whoever_waits_is_told_what_for(release: threading.Event) -> None:
    said: list[str] = []
    quick, slow = (worked(Tracker(**does), lambda text: None) for does in ({}, {"end": release.wait}))
    finish([quick, slow], said.append)
    release.set()
    assert said == ["Waiting for mine, 0 s at most."]


def test_an_interruption_of_the_waiting_leaves_all_trackers(release: threading.Event) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    told: list[str] = []
    ours = worked(Tracker(epoch=release.wait, abandon=release.set), told.append)
    with pytest.raises(KeyboardInterrupt):
        finish([ours], interrupt)
    assert ours.join(10)
    assert len(told) == 1
