"""Signals while a run trains: the first is recorded, and a second SIGINT ends the run."""

import os
import signal
from collections.abc import Iterator

import pytest

from cnnbench.runs.signals import Preempted, SignalGuard, preemption_signal


@pytest.fixture(autouse=True)
def _restore_handlers() -> Iterator[None]:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = [(number, signal.getsignal(number)) for number in signals]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def install_scheduler_handler(number: int = signal.SIGUSR2) -> None:
    """Install a handler like that of submitit, which ends the process at once."""

    def end(number: int, frame: object) -> None:
        raise AssertionError("the handler of the scheduler was not replaced")

    signal.signal(number, end)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_first_signal_is_recorded(number: int) -> None:
    if number in (signal.SIGUSR1, signal.SIGUSR2):
        install_scheduler_handler(number)
    with SignalGuard() as guard:
        send(number)
    assert (guard.signal, guard.at_once) == (number, False)


def test_check_does_nothing_without_a_signal() -> None:
    with SignalGuard() as guard:
        guard.check()
    assert guard.signal is None


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
def test_check_raises_the_error_of_the_signals(
    signals: list[int], ending: type[BaseException], code: int | None
) -> None:
    install_scheduler_handler()
    with SignalGuard() as guard:
        for number in signals:
            send(number)
        with pytest.raises(ending) as ended:
            guard.check()
    assert type(ended.value) is ending
    assert getattr(ended.value, "code", None) == code


def test_repeated_sigterm_changes_nothing() -> None:
    with SignalGuard() as guard:
        for _ in range(3):
            send(signal.SIGTERM)
    assert (guard.signal, guard.at_once) == (signal.SIGTERM, False)


def test_third_sigint_kills() -> None:
    with SignalGuard():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR2, Preempted)]
)
def test_signal_ends_an_interruptible_block(number: int, ending: type[BaseException]) -> None:
    install_scheduler_handler()
    with pytest.raises(ending), SignalGuard() as guard, guard.interruptible():
        send(number)


def test_interruptible_block_does_not_begin_after_a_signal() -> None:
    with SignalGuard() as guard:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), guard.interruptible():
            raise AssertionError("it began")


def test_signals_are_recorded_after_an_interruptible_block() -> None:
    with SignalGuard() as guard:
        with guard.interruptible():
            pass
        send(signal.SIGINT)
    assert guard.signal == signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_handlers_are_restored(number: int) -> None:
    install_scheduler_handler()
    before = signal.getsignal(number)
    with SignalGuard():
        send(number)
    assert signal.getsignal(number) == before


def test_first_signal_prints_how_to_stop_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with SignalGuard():
        send(signal.SIGINT)
    message = "stopping after this step, with a checkpoint (once more: at once)"
    assert message in capfd.readouterr().err


def test_no_signal_is_a_preemption_without_a_scheduler() -> None:
    assert preemption_signal() is None


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_signal_handled_by_a_scheduler_is_the_preemption(number: int) -> None:
    install_scheduler_handler(number)
    assert preemption_signal() == number


def test_preemption_after_a_sigterm_counts() -> None:
    def save_after_a_termination() -> None:
        with SignalGuard() as guard:
            send(signal.SIGTERM)
            try:
                guard.check()
            finally:
                send(signal.SIGUSR2)

    install_scheduler_handler()
    with pytest.raises(Preempted):
        save_after_a_termination()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_sigint_after_a_signal_ends_the_run_at_once(number: int) -> None:
    install_scheduler_handler()
    with SignalGuard() as guard:
        send(number)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert guard.at_once
