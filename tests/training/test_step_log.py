"""Rows of steps.csv: means over each N steps, which a resumed run continues to the bit."""

import math

import pytest
import torch
from helpers.config_changes import change
from helpers.resumable_training import NewTraining
from helpers.training_states import StartTraining

from cnnbench.config import Config
from cnnbench.errors import CheckpointError
from cnnbench.training import checkpoint
from cnnbench.training.metric_sums import MetricSums
from cnnbench.training.step_log import COLUMNS, StepLog


def add_batch(metrics: MetricSums, loss: float, labels: list[int]) -> None:
    """Add a batch whose examples are all classified as class 0."""
    logits = torch.tensor([[1.0, 0.0]]).repeat(len(labels), 1)
    metrics.update(torch.tensor(loss), logits, torch.tensor(labels))


def test_row_is_the_mean_over_the_examples_since_the_last_row() -> None:
    metrics, steps = MetricSums(torch.device("cpu")), StepLog(2)
    add_batch(metrics, 1.0, [0, 0])
    add_batch(metrics, 4.0, [1])
    assert steps.add(2, 0.5, 0.1, metrics) == {
        **{"step": 2, "epoch": 0.5, "lr": 0.1},
        **{"train_loss": 2.0, "train_accuracy": 2 / 3},
    }
    add_batch(metrics, 3.0, [1, 1])
    assert steps.add(4, 1.0, 0.1, metrics)["train_loss"] == 3.0
    assert [row["train_accuracy"] for row in steps.rows] == [2 / 3, 0.0]


def test_row_spans_the_end_of_an_epoch() -> None:
    metrics, steps = MetricSums(torch.device("cpu")), StepLog(2)
    for loss in (1.0, 2.0, 3.0):
        add_batch(metrics, loss, [0])
        if loss == 2.0:
            steps.add(2, 2 / 3, 0.1, metrics)
    steps.begin_epoch(metrics)
    metrics.reset()
    add_batch(metrics, 5.0, [1])
    row = steps.add(4, 4 / 3, 0.1, metrics)
    assert (row["train_loss"], row["train_accuracy"]) == (4.0, 0.5)


def test_skipped_losses_are_left_out() -> None:
    metrics, steps = MetricSums(torch.device("cpu"), skip_nonfinite=True), StepLog(1)
    add_batch(metrics, math.inf, [0])
    assert math.isnan(steps.add(1, 0.5, 0.1, metrics)["train_loss"])
    add_batch(metrics, 2.0, [0])
    assert steps.add(2, 1.0, 0.1, metrics)["train_loss"] == 2.0


def test_rows_of_a_run_average_to_its_epochs(start_training: StartTraining, config: Config) -> None:
    change(config, train__log_every=2, train__epochs=2)  # 3 steps of 8, 8 and 5 examples
    _, rows = start_training()
    logged = list(rows)
    steps = [row for row in logged if "step" in row]
    epochs = [row for row in logged if "step" not in row]
    assert [tuple(row) for row in steps] == [COLUMNS] * 3
    assert [row["step"] for row in steps] == [2, 4, 6]
    assert [row["epoch"] for row in steps] == [2 / 3, 4 / 3, 2.0]
    for column in ("train_loss", "train_accuracy"):
        of_steps = [
            row[column] * examples for row, examples in zip(steps, (16, 13, 13), strict=True)
        ]
        assert sum(of_steps) == pytest.approx(21 * sum(row[column] for row in epochs))


def test_run_without_rows_of_steps_has_no_key_for_them(new_training: NewTraining) -> None:
    training = new_training("plain")
    training.train()
    last, _ = checkpoint.load_newest(training.run.checkpoints)
    assert last is not None
    assert "step_log" not in last


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_resumed_run_has_the_rows_of_an_uninterrupted_one(
    new_training: NewTraining, config: Config, stop_after: int
) -> None:
    change(config, train__log_every=2)
    interrupted, uninterrupted = new_training("interrupted"), new_training("uninterrupted")
    interrupted.train(stop_after)
    interrupted.train()
    uninterrupted.train()
    ours, theirs = (
        checkpoint.load_newest(training.run.checkpoints)[0]
        for training in (interrupted, uninterrupted)
    )
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours["step_log"]["rows"], theirs["step_log"]["rows"])
    assert ours["step_log"]["rows"].shape == (4, len(COLUMNS))


@pytest.mark.parametrize("key", ["rows", "at_last_row"])
def test_damaged_rows_are_refused(new_training: NewTraining, config: Config, key: str) -> None:
    change(config, train__log_every=1)
    training = new_training("run")
    training.train(stop_after=2)
    path = training.run.checkpoints / "last.pt"
    state = checkpoint.load_checkpoint(path)
    state["step_log"][key] = torch.zeros(3, 3)
    for name in ("last.pt", "previous.pt"):
        checkpoint.save(training.run.checkpoints / name, state)
    with pytest.raises(CheckpointError, match=r"steps\.csv have other columns"):
        training.train()
