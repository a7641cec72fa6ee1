"""The wall time of parts of a run, with a clock that tests set."""

import time

import pytest

from cnnbench.runs.stopwatch import Stopwatch


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def test_parts_add_up(clock: Clock) -> None:
    watch = Stopwatch(100.0)
    for _ in range(2):
        with watch("train"):
            clock.now += 3
    clock.now += 1
    assert watch.as_dict() == {"train": 6, "total": 7}


def test_inner_part_does_not_count_for_the_outer_part(clock: Clock) -> None:
    watch = Stopwatch(100.0)
    with watch("train"):
        clock.now += 3
        with watch("checkpoints"):
            clock.now += 2
        clock.now += 1
    assert watch.as_dict() == {"train": 4, "checkpoints": 2, "total": 6}


def test_spent_includes_the_running_part(clock: Clock) -> None:
    watch = Stopwatch(100.0)
    with watch("train"):
        clock.now += 3
        assert watch.spent("train") == 3


def test_time_before_a_resume_is_added(clock: Clock) -> None:
    watch = Stopwatch(100.0)
    with watch("train"):
        clock.now += 3
    watch.add({"train": 10.0, "data": 1.0, "total": 20.0})
    assert watch.as_dict() == {"train": 13, "data": 1, "total": 23}
