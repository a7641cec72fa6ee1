"""Training that ends because a loss is inf or nan."""

import math

import pytest
import torch
from helpers.training_states import StartTraining

from cnnbench.config import Config
from cnnbench.errors import DivergedError
from cnnbench.runs.directory import RunDirectory
from cnnbench.training import checkpoint, loop
from cnnbench.training.engine import EagerEngine
from cnnbench.training.metric_sums import Metrics


def set_nan_loss_from(engine: EagerEngine, step: int) -> None:
    """Make the training loss NaN from `step` on, counted from 1."""
    finite_loss, steps = engine.loss, 0

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += torch.is_grad_enabled()
        return finite_loss(logits, labels) * (math.nan if steps >= step else 1.0)

    engine.loss = loss


def test_nonfinite_train_loss_raises_with_epoch_and_steps(
    start_training: StartTraining, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REFRESH_S", math.inf)  # read the sums at the end of the epoch only
    engine, rows = start_training()
    set_nan_loss_from(engine, step=5)
    with pytest.raises(
        DivergedError,
        match=r"training loss became nan in epoch 2, steps 4 to 6\..*last\.pt holds epoch 1",
    ):
        list(rows)


def test_nonfinite_train_loss_raises_within_the_epoch(
    start_training: StartTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REFRESH_S", -1.0)  # read the sums at every step
    engine, rows = start_training()
    set_nan_loss_from(engine, step=2)
    with pytest.raises(
        DivergedError, match=r"in epoch 1, steps 2 to 2\. There is no checkpoint yet"
    ):
        list(rows)


def test_nonfinite_validation_loss_raises(start_training: StartTraining) -> None:
    engine, rows = start_training()
    engine.evaluate = lambda examples, batch_size: Metrics(math.inf, 0.1)
    with pytest.raises(DivergedError, match="The validation loss is inf after epoch 1"):
        list(rows)


def test_nonfinite_loss_keeps_the_checkpoint_of_the_previous_epoch(
    start_training: StartTraining, run_directory: RunDirectory
) -> None:
    engine, rows = start_training()
    set_nan_loss_from(engine, step=5)
    with pytest.raises(DivergedError):
        list(rows)
    kept = checkpoint.load_checkpoint(run_directory.checkpoints / "last.pt")
    assert kept["epoch"] == 1
    assert all(value.isfinite().all() for value in kept["model"].values())
