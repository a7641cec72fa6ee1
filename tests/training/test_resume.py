"""Training that is interrupted and goes on from its checkpoint ends with the same bits as training that never was."""

import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import MakeEngine
from helpers.tape_engine import Net, TapeEngine
from helpers.training_states import make_state

from cnnbench.config import (
    AdagradConfig,
    AdamConfig,
    AdamWConfig,
    Config,
    ConstantConfig,
    CosineConfig,
    MomentumConfig,
    MuonConfig,
    NesterovConfig,
    OptimizerConfig,
    RMSpropConfig,
    SgdConfig,
)
from cnnbench.data.device_data import Examples
from cnnbench.errors import CheckpointError, DivergedError
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.records import read_rows
from cnnbench.runs.signals import SignalGuard
from cnnbench.training import checkpoint, loop
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import State, restore

OPTIMIZERS: list[OptimizerConfig] = [
    SgdConfig(lr=0.1, momentum=0.0, weight_decay=1e-4),
    MomentumConfig(lr=0.1, momentum=0.9, weight_decay=0.0),
    NesterovConfig(lr=0.1, momentum=0.9, weight_decay=0.0),
    AdagradConfig(lr=0.1, eps=1e-10, weight_decay=0.0),
    AdamConfig(lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0),
    AdamWConfig(lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01),
    RMSpropConfig(lr=0.01, alpha=0.99, eps=1e-8, momentum=0.9, weight_decay=0.0),
    MuonConfig(lr=0.02, momentum=0.95, weight_decay=0.0, fallback="adamw", fallback_lr=0.01),
]
MEASURED = ("epoch_s", "examples_per_s", "peak_gib")
CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    ],
)
EACH_DEVICE = pytest.mark.parametrize("device", ["cpu", CUDA], indirect=True)


class Training:
    """A run over three epochs of three steps, in its own directory, that can be stopped and gone on with."""

    def __init__(
        self, folder: Path, config: Config, examples: Examples, make: Callable[[], EagerEngine]
    ) -> None:
        self.run = RunDirectory(folder)
        self.config = config
        self.examples = examples
        self.make = make
        self.engine = make()

    def go(
        self, stop_after: int | None = None, *, in_evaluation: bool = False
    ) -> list[dict[str, float]]:
        """Train from the last checkpoint, or from the start; the rows. Stops after so many steps, or evaluations."""
        torch.manual_seed(3)
        self.engine = self.make()
        last, _ = checkpoint.load_newest(self.run.checkpoints)
        state = make_state(self.config, self.engine, self.examples, self.run)
        if last is not None:
            best = checkpoint.load(self.run.checkpoints / "best.pt") if last["rows"] else None
            restore(state, last, best)
        self.engine.prepare(self.examples, self.config.train.batch_size)
        self._stop_in(state.signals, stop_after, in_evaluation)
        rows = loop.fit(state)
        if stop_after is None:
            list(rows)
        else:
            with pytest.raises(KeyboardInterrupt):
                list(rows)
        return [{key: row[key] for key in row if key not in MEASURED} for row in state.rows]

    def _stop_in(self, signals: SignalGuard, after: int | None, in_evaluation: bool) -> None:
        steps, evaluate, count = self.engine.steps, self.engine.evaluate, 0

        def stopped_steps(*arguments: Any) -> Iterator[int]:
            nonlocal count
            for examples in steps(*arguments):
                count += 1
                signals.signal = signal.SIGINT if count == after and not in_evaluation else None
                yield examples

        def stopped_evaluate(*arguments: Any) -> Any:
            if in_evaluation and count // 3 == after:
                raise KeyboardInterrupt
            return evaluate(*arguments)

        self.engine.steps, self.engine.evaluate = stopped_steps, stopped_evaluate

    def bits(self) -> State:
        state, _ = checkpoint.load_newest(self.run.checkpoints)
        assert state is not None
        return {
            key: state[key]
            for key in (
                "model",
                "average",
                "optimizers",
                "scaler",
                "generators",
                "sums",
                "examples",
            )
        }


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


NewTraining = Callable[..., Training]


@pytest.fixture
def new(
    tmp_path: Path, config: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> NewTraining:
    """Makes a training of `Net` with all that has a memory: dropout, statistics, augmentation, an average."""
    change(config, optimizer=OPTIMIZERS[2])
    change(config, scheduler=CosineConfig(min_lr_ratio=0.0, warmup_epochs=0.5))
    change(config, augment__hflip=True, augment__mixup=0.4)
    change(config, train__epochs=3, train__ema_decay=0.8)

    def make(name: str, kind: type[EagerEngine] = EagerEngine, precision: str = "fp32") -> Training:
        how = replace(device, precision=precision)
        return Training(
            tmp_path / name, config, examples, lambda: make_engine(Net(), config, how, kind)
        )

    return make


def assert_same(whole: Training, parts: Training, rows: list[dict[str, float]]) -> None:
    assert rows == whole.go()
    assert equal(parts.bits(), whole.bits())


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_a_stop_after_any_step_changes_nothing(new: NewTraining, stop_after: int) -> None:
    parts = new("parts")
    parts.go(stop_after)
    assert_same(new("whole"), parts, parts.go())


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_stop_in_any_evaluation_changes_nothing(new: NewTraining, epoch: int) -> None:
    parts = new("parts")
    parts.go(epoch, in_evaluation=True)
    assert_same(new("whole"), parts, parts.go())


def test_stops_after_every_step_change_nothing(new: NewTraining) -> None:
    parts = new("parts")
    for _ in range(8):
        parts.go(stop_after=1)
    assert_same(new("whole"), parts, parts.go())


@EACH_DEVICE
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: each.name)
def test_every_optimizer_goes_on(
    new: NewTraining, config: Config, optimizer: OptimizerConfig
) -> None:
    change(config, optimizer=optimizer)
    parts = new("parts")
    parts.go(stop_after=4)
    assert_same(new("whole"), parts, parts.go())


@EACH_DEVICE
@pytest.mark.parametrize(
    "optimizer",
    [
        each
        if each.name in ("momentum", "adam", "muon")
        else pytest.param(each, marks=pytest.mark.slow)
        for each in OPTIMIZERS
    ],
    ids=lambda each: each.name,
)
def test_every_optimizer_goes_on_where_steps_are_replayed(
    new: NewTraining, config: Config, device: Device, optimizer: OptimizerConfig
) -> None:
    if optimizer.name == "rmsprop" and device.torch_device.type == "cpu":
        pytest.skip("PyTorch can record RMSprop on a GPU alone")
    change(config, optimizer=optimizer)
    parts = new("parts", TapeEngine)
    parts.go(stop_after=4)
    assert_same(new("whole", TapeEngine), parts, parts.go())


@pytest.mark.parametrize("on_nonfinite_loss", ["stop", "skip"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_precision_goes_on(
    new: NewTraining, config: Config, precision: str, on_nonfinite_loss: str
) -> None:
    change(config, train__on_nonfinite_loss=on_nonfinite_loss)
    parts = new("parts", precision=precision)
    parts.go(stop_after=4)
    assert_same(new("whole", precision=precision), parts, parts.go())


def test_without_a_validation_set_it_goes_on_too(new: NewTraining, config: Config) -> None:
    change(config, data__validation=0)
    parts = new("parts")
    parts.go(stop_after=2)
    assert_same(new("whole"), parts, parts.go())


def test_more_epochs_go_on_as_if_they_had_been_asked_for_at_once(
    new: NewTraining, config: Config
) -> None:
    change(config, scheduler=ConstantConfig(warmup_epochs=0.0))
    change(config, train__epochs=2)
    parts = new("parts")
    parts.go()
    change(config, train__epochs=3)
    assert_same(new("whole"), parts, parts.go())


def test_the_learning_rate_is_that_of_the_configuration_it_goes_on_with(
    new: NewTraining, config: Config
) -> None:
    change(config, scheduler=ConstantConfig(warmup_epochs=0.0))
    parts = new("parts")
    parts.go(stop_after=4)
    change(config, optimizer__lr=0.5)
    assert [row["lr"] for row in parts.go()] == [0.1, 0.5, 0.5]


def test_a_checkpoint_of_another_network_is_told(
    new: NewTraining, config: Config, make_engine: MakeEngine
) -> None:
    parts = new("parts")
    parts.go(stop_after=4)
    parts.make = lambda: make_engine(torch.nn.Linear(2, 2), config, parts.engine.device)
    with pytest.raises(CheckpointError, match="does not fit this run"):
        parts.go()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", [{"epoch": 7}]),
        ("rows", "x"),
        ("step", "many"),
        ("optimizers", []),
        ("generators", {}),
        ("sums", torch.zeros(7)),
        ("wall_s", 3),
        ("train_s", None),
    ],
)
def test_a_checkpoint_that_makes_no_sense_is_told(
    new: NewTraining, key: str, value: object
) -> None:
    parts = new("parts")
    parts.go(stop_after=4)
    state = checkpoint.load(parts.run.checkpoints / "last.pt")
    checkpoint.save(parts.run.checkpoints / "last.pt", {**state, key: value})
    with pytest.raises(CheckpointError, match="does not fit this run"):
        parts.go()


def test_rows_without_a_measured_peak_are_resumed_and_recorded(
    new: NewTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = new("parts")
    monkeypatch.setattr(Device, "peak_memory_gib", lambda _: None)
    parts.go(stop_after=4)
    monkeypatch.setattr(Device, "peak_memory_gib", lambda _: 1.5)
    parts.go()
    rows = list(read_rows(parts.run.path))
    assert [row.get("peak_gib") for row in rows] == [None, 1.5, 1.5]


def count_checkpoints(training: Training, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where training stood at each submission of last.pt, as finished epochs and steps."""
    submitted: list[tuple[int, int]] = []

    def submit(writer: object, states: dict[str, State]) -> None:
        submitted.append((states["last"]["epoch"], states["last"]["step"]))

    monkeypatch.setattr("cnnbench.training.checkpoint.AsyncCheckpointWriter.submit", submit)
    training.go()
    return submitted


@pytest.mark.parametrize(
    ("epochs", "steps", "minutes", "places"),
    [
        (1, None, None, [(1, 0), (2, 0), (3, 0)]),
        (2, None, None, [(2, 0), (3, 0)]),
        (None, None, None, [(3, 0)]),
        (None, 2, None, [(0, 2), (1, 1), (1, 3), (2, 2), (3, 0)]),
        (None, None, 0.0, [(epoch, step) for epoch in range(3) for step in (1, 2, 3)] + [(3, 0)]),
        (None, None, 5.0, [(3, 0)]),
    ],
)
def test_checkpoints_are_taken_as_often_as_asked(
    new: NewTraining,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    epochs: int | None,
    steps: int | None,
    minutes: float | None,
    places: list[tuple[int, int]],
) -> None:
    change(config, data__validation=0)  # a new best is saved in any case
    change(config.train.checkpoint_every, epochs=epochs, steps=steps, minutes=minutes)
    assert count_checkpoints(new("run"), monkeypatch) == places


def test_weights_that_are_not_finite_are_never_saved(new: NewTraining, config: Config) -> None:
    training = new("run")
    evaluate = EagerEngine.evaluate

    def evaluate_and_break(engine: EagerEngine, *arguments: Any) -> Any:
        measured = evaluate(engine, *arguments)
        next(engine.model.parameters()).data[:] = math.nan
        return measured

    engine = training.make()
    training.make = lambda: engine
    engine.evaluate = lambda *arguments: evaluate_and_break(engine, *arguments)
    with pytest.raises(
        DivergedError,
        match=r"weights are no longer finite after epoch 1\. There is no checkpoint yet",
    ):
        training.go()
    assert not (training.run.checkpoints / "last.pt").exists()
