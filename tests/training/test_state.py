"""The progress of a run, its snapshot, and checks of the values in an untrusted one."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import MakeEngine
from helpers.training_states import make_state
from torch import nn

from cnnbench.config import Config
from cnnbench.data.device_data import Examples
from cnnbench.errors import CheckpointError
from cnnbench.runs.directory import RunDirectory
from cnnbench.training.device import Device
from cnnbench.training.state import (
    State,
    TrainingHistory,
    TrainingState,
    check_values,
    restore,
    snapshot,
)

ROW = {
    "epoch": 1,
    "lr": 0.1,
    "train_loss": 1.0,
    "train_accuracy": 0.5,
    "validation_loss": 1.0,
    "validation_accuracy": 0.5,
    "epoch_s": 0.1,
    "examples_per_s": 210.0,
}


@pytest.fixture
def new_state(
    tmp_path: Path, config: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> Callable[[], TrainingState]:
    """Make states before the first step, on 21 examples in batches of 8."""

    def make() -> TrainingState:
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        engine = make_engine(network, config, device)
        return make_state(config, engine, examples, RunDirectory(tmp_path / "run"))

    return make


@pytest.fixture
def state(new_state: Callable[[], TrainingState]) -> TrainingState:
    return new_state()


def take(state: TrainingState) -> State:
    return snapshot(state, state.engine.state())


def test_smaller_last_batch_counts_as_a_step(state: TrainingState) -> None:
    assert (state.batch_size, state.steps_per_epoch) == (8, 3)


def test_batch_size_is_limited_to_the_training_examples(
    config: Config, state: TrainingState
) -> None:
    change(config, train__batch_size=64)
    assert (state.batch_size, state.steps_per_epoch) == (21, 1)


def test_epochs_count_from_one(state: TrainingState) -> None:
    assert state.epoch == 1
    state.rows.append(ROW)
    assert state.epoch == 2


def test_validation_set_is_evaluated_after_each_epoch(state: TrainingState) -> None:
    assert state.eval_part == "validation"
    assert state.eval_examples is state.data.validation


def test_test_set_is_evaluated_without_a_validation_set(
    config: Config, new_state: Callable[[], TrainingState]
) -> None:
    change(config, data__validation=0)
    state = new_state()
    assert state.eval_part == "test"
    assert state.eval_examples is state.data.test


def test_runs_are_compared_by_best_validation_accuracy() -> None:
    last = {**ROW, "epoch": 2, "validation_accuracy": 0.25}
    assert TrainingHistory([ROW, last], best=ROW).value == 0.5


def test_runs_without_validation_are_compared_by_last_test_accuracy() -> None:
    rows = [{"test_accuracy": 0.75}, {"test_accuracy": 0.5}]
    assert TrainingHistory(rows, best=None).value == 0.5


def test_snapshot_does_not_change_with_the_weights(state: TrainingState) -> None:
    taken = take(state)
    before = {name: value.clone() for name, value in taken["model"].items()}
    with torch.no_grad():
        for parameter in state.engine.model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(taken["model"][name], value) for name, value in before.items())


def test_restored_state_has_the_same_snapshot(new_state: Callable[[], TrainingState]) -> None:
    state, restored = new_state(), new_state()
    images, labels = state.data.train.take(torch.arange(8))
    state.engine.train_step(images, labels)
    state.step, state.train_s = 1, 0.5
    taken = take(state)
    restore(restored, taken, best=None)
    again = take(restored)
    assert all(torch.equal(again["model"][name], value) for name, value in taken["model"].items())
    for index, values in taken["optimizers"][0].items():
        assert torch.equal(
            again["optimizers"][0][index]["momentum_buffer"], values["momentum_buffer"]
        )
    assert torch.equal(again["sums"], taken["sums"])
    assert torch.equal(again["generators"]["cpu"], taken["generators"]["cpu"])
    assert (again["step"], again["examples"], again["train_s"]) == (1, 8, 0.5)


def test_snapshot_passes_the_check_of_values(state: TrainingState) -> None:
    state.rows += [ROW, {**ROW, "epoch": 2, "peak_gib": 0.5}]
    check_values(take(state))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", []),
        ("rows", {}),
        ("rows", [{"epoch": 1}]),
        ("rows", [{**ROW, "train_loss": math.nan}]),
        ("rows", [{**ROW, "lr": 10**400}]),
        ("rows", [{"peak_gib": 0.5, **ROW}]),
        ("step", -1),
        ("step", True),
        ("examples", 1.0),
        ("train_s", -1.0),
        ("wall_s", {"train": "long"}),
    ],
)
def test_values_of_other_types_or_ranges_are_refused(
    state: TrainingState, key: str, value: Any
) -> None:
    with pytest.raises(CheckpointError, match=f"invalid {key}"):
        check_values({**take(state), key: value})


def test_training_time_must_be_positive_after_the_first_step(state: TrainingState) -> None:
    with pytest.raises(CheckpointError, match="invalid train_s"):
        check_values({**take(state), "step": 1, "train_s": 0.0})
