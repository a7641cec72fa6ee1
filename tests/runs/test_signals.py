"""Signals while a run trains: the first is noted, a second SIGINT ends it."""

import os
import signal
from collections.abc import Iterator

import pytest

from cnnbench.runs.signals import Preempted, SignalGuard, preemption_signal


@pytest.fixture(autouse=True)
def _handlers_as_they_were() -> Iterator[None]:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = [(number, signal.getsignal(number)) for number in signals]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def in_a_job_of_a_scheduler(number: int = signal.SIGUSR2) -> None:
    """As submitit does: the process ends wherever it is."""

    def end(number: int, frame: object) -> None:
        raise AssertionError("the scheduler's handler was not kept from ending the step")

    signal.signal(number, end)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_the_first_signal_is_noted(number: int) -> None:
    if number in (signal.SIGUSR1, signal.SIGUSR2):
        in_a_job_of_a_scheduler(number)
    with SignalGuard() as stopping:
        send(number)
    assert (stopping.signal, stopping.at_once) == (number, False)


def test_check_lets_a_run_go_on_that_nobody_stops() -> None:
    with SignalGuard() as stopping:
        stopping.check()
    assert stopping.signal is None


@pytest.mark.parametrize(
    ("signals", "ending", "code"),
    [
        ([signal.SIGINT], KeyboardInterrupt, None),
        ([signal.SIGTERM], SystemExit, 143),
        ([signal.SIGUSR2], Preempted, 143),
        ([signal.SIGTERM, signal.SIGUSR2], Preempted, 143),
        ([signal.SIGUSR2, signal.SIGTERM], Preempted, 143),
    ],
)
def test_check_ends_the_run_as_the_signals_ask(
    signals: list[int], ending: type[BaseException], code: int | None
) -> None:
    in_a_job_of_a_scheduler()
    with SignalGuard() as stopping:
        for number in signals:
            send(number)
        with pytest.raises(ending) as ended:
            stopping.check()
    assert type(ended.value) is ending
    assert getattr(ended.value, "code", None) == code


def test_a_termination_that_is_repeated_changes_nothing() -> None:
    with SignalGuard() as stopping:
        for _ in range(3):
            send(signal.SIGTERM)
    assert (stopping.signal, stopping.at_once) == (signal.SIGTERM, False)


def test_the_third_signal_kills() -> None:
    with SignalGuard():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR2, Preempted)]
)
def test_what_can_be_broken_off_is(number: int, ending: type[BaseException]) -> None:
    in_a_job_of_a_scheduler()
    with pytest.raises(ending), SignalGuard() as stopping, stopping.interruptible():
        send(number)


def test_what_can_be_broken_off_does_not_begin_after_a_signal() -> None:
    with SignalGuard() as stopping:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), stopping.interruptible():
            raise AssertionError("it began")


def test_after_what_can_be_broken_off_signals_are_noted_again() -> None:
    with SignalGuard() as stopping:
        with stopping.interruptible():
            pass
        send(signal.SIGINT)
    assert stopping.signal == signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_the_handlers_are_as_before_in_the_end(number: int) -> None:
    in_a_job_of_a_scheduler()
    before = signal.getsignal(number)
    with SignalGuard():
        send(number)
    assert signal.getsignal(number) == before


def test_it_says_what_it_does_and_how_to_be_quicker(capfd: pytest.CaptureFixture[str]) -> None:
    with SignalGuard():
        send(signal.SIGINT)
    assert (
        "stopping after this step, with a checkpoint (once more: at once)" in capfd.readouterr().err
    )


def test_no_signal_is_a_preemption_where_no_scheduler_handles_one() -> None:
    assert preemption_signal() is None


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_the_signal_that_a_scheduler_handles_is_the_preemption(number: int) -> None:
    in_a_job_of_a_scheduler(number)
    assert preemption_signal() == number


def test_a_preemption_that_comes_while_a_termination_is_saved_counts() -> None:
    def save_after_a_termination() -> None:
        with SignalGuard() as stopping:
            send(signal.SIGTERM)
            try:
                stopping.check()
            finally:
                send(signal.SIGUSR2)

    in_a_job_of_a_scheduler()
    with pytest.raises(Preempted):
        save_after_a_termination()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_ctrl_c_after_a_signal_ends_the_run_where_it_is(number: int) -> None:
    in_a_job_of_a_scheduler()
    with SignalGuard() as stopping:
        send(number)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert stopping.at_once
