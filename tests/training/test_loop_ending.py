"""When training ends: train.epochs, train.patience, train.max_minutes; which epoch is the best."""

import math
from collections.abc import Iterator

import pytest
import torch
from helpers.config_changes import change
from helpers.resumable_training import (
    STEPS_PER_EPOCH,
    NewTraining,
    ResumableTraining,
    assert_resumes_to,
)
from helpers.training_states import StartTraining, make_state

from cnnbench.config import Config
from cnnbench.data.device_data import Examples
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.signals import TimeLimitReached
from cnnbench.training import checkpoint, loop
from cnnbench.training.engine import EagerEngine
from cnnbench.training.metric_sums import Metrics
from cnnbench.training.state import Row, restore

# The validation loss is lowest after epoch 2, the accuracy highest after epoch 3.
MEASURED = [(2.0, 0.3), (1.0, 0.4), (1.5, 0.6), (1.2, 0.6), (1.1, 0.5), (1.3, 0.5)]


def measure_as_listed(engine: EagerEngine, finished: int = 0) -> None:
    """Make the evaluations of an engine return `MEASURED`, after the finished epochs."""
    measured = iter(MEASURED[finished:])
    engine.evaluate = lambda *_: Metrics(*next(measured))


def train(start_training: StartTraining) -> list[Row]:
    engine, rows = start_training()
    measure_as_listed(engine)
    return list(rows)


@pytest.mark.parametrize(
    ("select_by", "patience", "expected"),
    [
        ("accuracy", 1, 4),
        ("accuracy", 2, 5),
        ("accuracy", 4, 6),
        ("accuracy", None, 6),
        ("loss", 1, 3),
        ("loss", 3, 5),
    ],
)
def test_run_ends_after_patience_epochs_without_a_better_figure(
    start_training: StartTraining,
    config: Config,
    select_by: str,
    patience: int | None,
    expected: int,
) -> None:
    change(config, train__epochs=6, train__patience=patience, train__select_by=select_by)
    assert len(train(start_training)) == expected


@pytest.mark.parametrize(("select_by", "epoch"), [("accuracy", 3), ("loss", 2)])
def test_best_checkpoint_is_of_the_first_epoch_with_the_best_figure(
    start_training: StartTraining,
    config: Config,
    run_directory: RunDirectory,
    select_by: str,
    epoch: int,
) -> None:
    change(config, train__epochs=6, train__select_by=select_by)
    train(start_training)
    assert checkpoint.load_checkpoint(run_directory.checkpoints / "best.pt")["epoch"] == epoch


def test_last_epoch_is_saved_when_patience_ends_the_run(
    start_training: StartTraining, config: Config, run_directory: RunDirectory
) -> None:
    change(config, train__epochs=6, train__patience=2)
    change(config.train.checkpoint_every, epochs=None)
    train(start_training)
    assert checkpoint.load_checkpoint(run_directory.checkpoints / "last.pt")["epoch"] == 5


def resume(training: ResumableTraining) -> list[Row]:
    """Restore the last checkpoint and train on; return the rows of this process."""
    engine = training.make()
    folder = training.run.checkpoints
    last = checkpoint.load_checkpoint(folder / "last.pt")
    state = make_state(training.config, engine, training.examples, training.run)
    restore(state, last, checkpoint.load_checkpoint(folder / "best.pt"))
    measure_as_listed(engine, len(last["rows"]))
    return list(loop.fit(state))


@pytest.fixture
def stopped_by_patience(new_training: NewTraining, config: Config) -> ResumableTraining:
    """Return a training that patience has ended after epoch 5."""
    change(config, train__epochs=6, train__patience=2)
    training = new_training("run")
    engine = training.make()
    measure_as_listed(engine)
    list(loop.fit(make_state(config, engine, training.examples, training.run)))
    return training


def test_resumed_run_has_no_more_patience_than_before(
    stopped_by_patience: ResumableTraining,
) -> None:
    assert resume(stopped_by_patience) == []


def test_resumed_run_trains_on_with_more_patience(
    stopped_by_patience: ResumableTraining, config: Config
) -> None:
    change(config, train__patience=3)
    assert [row["epoch"] for row in resume(stopped_by_patience)] == [6]


def stop_at(
    config: Config, engine: EagerEngine, examples: Examples, run: RunDirectory, second: float
) -> Iterator[Row]:
    """Return the rows of a run whose train.max_minutes are over at a time of perf_counter."""
    change(config, train__max_minutes=1.0)
    state = make_state(config, engine, examples, run)
    state.stop_at = second
    return loop.fit(state)


def test_time_limit_ends_the_run_after_its_step_with_a_checkpoint(
    start_training: StartTraining,
    config: Config,
    examples: Examples,
    run_directory: RunDirectory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "cnnbench")
    engine, _ = start_training()
    with pytest.raises(TimeLimitReached) as stopped:
        list(stop_at(config, engine, examples, run_directory, -math.inf))
    assert stopped.value.code == 0
    assert stopped.value.history.rows == []
    assert math.isnan(stopped.value.history.value)
    last = checkpoint.load_checkpoint(run_directory.checkpoints / "last.pt")
    assert (last["epoch"], last["step"]) == (0, 1)
    assert [record.message for record in caplog.records] == [
        "The time of train.max_minutes=1 is over.",
        "Stopped. checkpoints/last.pt holds epoch 1 up to step 1.",
    ]


def test_run_ends_by_itself_within_its_time_limit(
    start_training: StartTraining,
    config: Config,
    examples: Examples,
    run_directory: RunDirectory,
) -> None:
    engine, _ = start_training()
    assert len(list(stop_at(config, engine, examples, run_directory, math.inf))) == 2


def test_run_that_its_time_limit_stops_after_each_step_has_the_same_bits(
    new_training: NewTraining, config: Config
) -> None:
    change(config, train__max_minutes=1.0)
    uninterrupted, stopped = new_training("uninterrupted"), new_training("stopped")
    for _ in range(STEPS_PER_EPOCH * 3 - 1):
        torch.manual_seed(3)
        engine, folder = stopped.make(), stopped.run.checkpoints
        state = make_state(config, engine, stopped.examples, stopped.run)
        last, _ = checkpoint.load_newest(folder)
        if last is not None:
            best = checkpoint.load_checkpoint(folder / "best.pt") if last["rows"] else None
            restore(state, last, best)
        state.stop_at = -math.inf
        with pytest.raises(TimeLimitReached):
            list(loop.fit(state))
    assert_resumes_to(uninterrupted, stopped)
