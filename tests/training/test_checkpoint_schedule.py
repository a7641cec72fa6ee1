"""When checkpoints are saved during training, and when not."""

import math
from typing import Any

import pytest
from helpers.config_changes import change
from helpers.resumable_training import NewTraining, ResumableTraining

from cnnbench.config import Config
from cnnbench.errors import DivergedError
from cnnbench.training.state import State


def record_submissions(
    training: ResumableTraining, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int, int]]:
    """Train; return the finished epochs and steps at each submission of last.pt."""
    submitted: list[tuple[int, int]] = []

    def submit(writer: object, states: dict[str, State]) -> None:
        submitted.append((states["last"]["epoch"], states["last"]["step"]))

    monkeypatch.setattr("cnnbench.training.checkpoint.AsyncCheckpointWriter.submit", submit)
    training.train()
    return submitted


@pytest.mark.parametrize(
    ("epochs", "steps", "minutes", "expected"),
    [
        (1, None, None, [(1, 0), (2, 0), (3, 0)]),
        (2, None, None, [(2, 0), (3, 0)]),
        (None, None, None, [(3, 0)]),
        (None, 2, None, [(0, 2), (1, 1), (1, 3), (2, 2), (3, 0)]),
        (None, None, 0.0, [(epoch, step) for epoch in range(3) for step in (1, 2, 3)] + [(3, 0)]),
        (None, None, 5.0, [(3, 0)]),
    ],
)
def test_checkpoint_every_sets_when_checkpoints_are_saved(
    new_training: NewTraining,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    epochs: int | None,
    steps: int | None,
    minutes: float | None,
    expected: list[tuple[int, int]],
) -> None:
    change(config, data__validation=0)  # each new best would add a checkpoint
    change(config.train.checkpoint_every, epochs=epochs, steps=steps, minutes=minutes)
    assert record_submissions(new_training("run"), monkeypatch) == expected


def test_nonfinite_weights_are_never_saved(new_training: NewTraining, config: Config) -> None:
    training = new_training("run")
    engine = training.make()
    evaluate = engine.evaluate

    def evaluate_and_break(*arguments: Any) -> Any:
        measured = evaluate(*arguments)
        next(engine.model.parameters()).data[:] = math.nan
        return measured

    training.make = lambda: engine
    engine.evaluate = evaluate_and_break
    with pytest.raises(
        DivergedError,
        match=r"weights are no longer finite after epoch 1\. There is no checkpoint yet",
    ):
        training.train()
    assert not (training.run.checkpoints / "last.pt").exists()
