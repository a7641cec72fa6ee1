"""Training that is interrupted and resumed, to compare its bits with uninterrupted training."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.training_states import drop_measured, make_state

from cnnbench.config import Config
from cnnbench.data.device_data import Examples
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.signals import SignalGuard
from cnnbench.training import checkpoint, loop
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import Row, State, restore

__all__ = ["STEPS_PER_EPOCH", "NewTraining", "ResumableTraining", "assert_resumes_to"]

COMPARED_KEYS = ("model", "average", "optimizers", "scaler", "generators", "sums", "examples")
STEPS_PER_EPOCH = 3


class ResumableTraining:
    """A run of three epochs of three steps, in its own directory, that can be interrupted."""

    def __init__(
        self, folder: Path, config: Config, examples: Examples, make: Callable[[], EagerEngine]
    ) -> None:
        self.run = RunDirectory(folder)
        self.config = config
        self.examples = examples
        self.make = make
        self.engine = make()

    def train(self, stop_after: int | None = None, *, in_evaluation: bool = False) -> list[Row]:
        """Train from the last checkpoint, or from the start; return the rows.

        `stop_after` interrupts the training after so many steps, or, if `in_evaluation`, in the
        evaluation after so many epochs.
        """
        torch.manual_seed(3)
        self.engine = self.make()
        last, _ = checkpoint.load_newest(self.run.checkpoints)
        state = make_state(self.config, self.engine, self.examples, self.run)
        if last is not None:
            best = (
                checkpoint.load_checkpoint(self.run.checkpoints / "best.pt")
                if last["rows"]
                else None
            )
            restore(state, last, best)
        self.engine.prepare(self.examples, self.config.train.batch_size)
        self._interrupt(state.signals, stop_after, in_evaluation)
        rows = loop.fit(state)
        if stop_after is None:
            list(rows)
        else:
            with pytest.raises(KeyboardInterrupt):
                list(rows)
        return drop_measured(state.rows)

    def _interrupt(self, signals: SignalGuard, stop_after: int | None, in_evaluation: bool) -> None:
        steps, evaluate, count = self.engine.steps, self.engine.evaluate, 0

        def steps_with_signal(*arguments: Any) -> Iterator[int]:
            nonlocal count
            for num_examples in steps(*arguments):
                count += 1
                is_last = count == stop_after and not in_evaluation
                signals.signal = signal.SIGINT if is_last else None
                yield num_examples

        def evaluate_or_interrupt(*arguments: Any) -> Any:
            if in_evaluation and count // STEPS_PER_EPOCH == stop_after:
                raise KeyboardInterrupt
            return evaluate(*arguments)

        self.engine.steps, self.engine.evaluate = steps_with_signal, evaluate_or_interrupt

    def load_compared(self) -> State:
        """Return the values of the newest checkpoint whose bits are compared."""
        state, _ = checkpoint.load_newest(self.run.checkpoints)
        assert state is not None
        return {key: state[key] for key in COMPARED_KEYS}


NewTraining = Callable[..., ResumableTraining]


def assert_resumes_to(uninterrupted: ResumableTraining, interrupted: ResumableTraining) -> None:
    """Resume the interrupted training; compare rows and bits with uninterrupted training."""
    rows = interrupted.train()
    assert rows == uninterrupted.train()
    assert _is_equal(interrupted.load_compared(), uninterrupted.load_compared())


def _is_equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_is_equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_is_equal, left, right))
    return bool(left == right)
