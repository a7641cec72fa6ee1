"""The log lines and files of a run in training."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from helpers.config_changes import change
from helpers.devices import MakeEngine
from helpers.training_states import make_state
from torch import nn

from cnnbench import config as configuration
from cnnbench.config import Config
from cnnbench.data.device_data import Examples
from cnnbench.runs import machine
from cnnbench.runs.directory import DATASET, RunDirectory
from cnnbench.training.device import Device
from cnnbench.training.metric_sums import Metrics
from cnnbench.training.recording import log_setup, recording
from cnnbench.training.resume import ResumeState
from cnnbench.training.state import Row, TrainingResult, TrainingState, snapshot


@pytest.fixture(autouse=True)
def _log_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cnnbench")


@pytest.fixture
def state(
    tmp_path: Path, config: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> TrainingState:
    engine = make_engine(nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), config, device)
    return make_state(config, engine, examples, RunDirectory(tmp_path / "run"))


def make_row(epoch: int, accuracy: float) -> Row:
    return {
        "epoch": epoch,
        "lr": 0.1,
        "train_loss": 1.5,
        "train_accuracy": accuracy,
        "validation_loss": 1.25,
        "validation_accuracy": accuracy,
        "epoch_s": 0.5,
        "examples_per_s": 42.0,
    }


def test_steps_are_written_from_the_first_and_then_appended(
    config: Config,
    state: TrainingState,
) -> None:
    change(config, train__log_every=2)
    assert state.run_directory is not None
    path = state.run_directory.path / "steps.csv"
    names = ("step", "epoch", "lr", "train_loss", "train_accuracy")
    with recording(state, ResumeState(), multiply_adds=64) as recorder:
        assert recorder is not None
        for step in (2, 4, 6):
            row = dict(zip(names, (step, step / 3, 0.1, 1.5, 0.75), strict=True))
            state.step_log.rows.append(row)
            if step > 2:  # the first row is that of an earlier process
                recorder.step(row)
    lines = path.read_text().splitlines()
    assert lines[0] == "step,epoch,lr,train_loss,train_accuracy"
    assert [line.split(",")[0] for line in lines[1:]] == ["2", "4", "6"]
    assert lines[2] == f"4,{4 / 3},0.1,1.5,0.75"


def record(state: TrainingState, resume: ResumeState, accuracy: float = 0.75) -> dict[str, Any]:
    """Record two epochs and the result; return result.json."""
    with recording(state, resume, multiply_adds=64) as recorder:
        assert recorder is not None
        for epoch in (1, 2):
            state.rows.append(make_row(epoch, accuracy))
            recorder.epoch(state.rows[-1])
        recorder.result(TrainingResult(state.rows, state.rows[0], Metrics(1.0, accuracy)))
    assert state.run_directory is not None
    result: dict[str, Any] = json.loads((state.run_directory.path / "result.json").read_text())
    return result


def test_worker_rank_records_nothing(state: TrainingState) -> None:
    state.run_directory = None
    with recording(state, ResumeState(), multiply_adds=0) as recorder:
        assert recorder is None


def test_new_run_records_dataset_and_environment(state: TrainingState, tmp_path: Path) -> None:
    record(state, ResumeState())
    dataset = json.loads((tmp_path / "run" / DATASET).read_text())
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert dataset["classes"] == list(state.dataset.classes)
    assert (environment["device"], environment["engine"]) == ("cpu", "eager")
    assert environment["data"] == state.data.split.summary()


def test_result_holds_best_and_final_rows(state: TrainingState) -> None:
    result = record(state, ResumeState())
    assert (result["parameters"], result["multiply_adds"]) == (16 * 4 + 4, 64)
    assert (result["test_accuracy"], result["test_loss"]) == (0.75, 1.0)
    assert (result["best"]["epoch"], result["final"]["epoch"]) == (1, 2)


def test_each_epoch_is_a_line_below_the_columns(
    state: TrainingState, caplog: pytest.LogCaptureFixture
) -> None:
    record(state, ResumeState())
    columns, units, first, second = caplog.messages[:4]
    assert columns.split() == ["epoch", "lr", "train", "validation", "time", "examples/s"]
    assert units.split() == ["loss", "acc.", "loss", "acc."]
    assert first.split() == [
        *("1/2", "0.1", "1.5000", "0.7500", "1.2500", "0.7500", "0.50", "s", "42")
    ]
    assert second.startswith("  2/2")
    assert "Test accuracy 0.7500, with the weights of epoch 1, the best on validation." in (
        caplog.messages
    )


@pytest.mark.parametrize(("accuracy", "is_warned"), [(0.1, True), (0.75, False)])
def test_accuracy_at_chance_is_logged_with_advice(
    state: TrainingState, caplog: pytest.LogCaptureFixture, accuracy: float, is_warned: bool
) -> None:
    record(state, ResumeState(), accuracy)
    assert ("The network learned nothing" in caplog.text) == is_warned


def test_resumed_run_logs_its_progress_and_records_the_changes(
    state: TrainingState, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    record(state, ResumeState())
    caplog.clear()
    state.rows, state.step = state.rows[:1], 2
    last = snapshot(state, state.engine.state())
    with recording(state, ResumeState(last, changes={"train.epochs": 2}), multiply_adds=0):
        pass
    assert caplog.messages[0] == "Resumes after 1 epoch and 2 steps of the next."
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    (resumed,) = environment["continued"]
    assert (resumed["epoch"], resumed["step"]) == (1, 2)
    assert resumed["changes"] == {"train.epochs": 2}


def test_more_epochs_log_a_jump_of_the_cosine_learning_rate(
    state: TrainingState, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = configuration.CosineConfig(warmup_epochs=0.0, min_lr_ratio=0.0)
    change(config, scheduler=schedule)
    state.rows.append(make_row(1, 0.5))
    last = snapshot(state, state.engine.state())
    with recording(state, ResumeState(last), multiply_adds=0):
        pass
    assert "the learning rate jumps" not in caplog.text
    change(config, train__epochs=4)
    with recording(state, ResumeState(last), multiply_adds=0):
        pass
    assert "train.epochs=4 in place of 2 changes the schedule scheduler=cosine" in caplog.text


def test_setup_names_parameters_device_and_precision(
    state: TrainingState, caplog: pytest.LogCaptureFixture
) -> None:
    log_setup(state)
    assert caplog.messages[0].startswith("68 parameters on cpu (")
    assert caplog.messages[0].endswith("), fp32, channels first, 1 thread")


def test_setup_logs_more_threads_than_cpus(
    state: TrainingState,
    config: Config,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: 2)
    change(config, device__threads=3)
    log_setup(state)
    expected = "device.threads=3 is more than the CPUs that this process may use (2)."
    assert expected in caplog.messages
