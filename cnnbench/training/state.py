"""The state of a run in training, and its copy in a checkpoint, which resumes bit-exactly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from cnnbench.config import Config, TrainConfig, as_dict
from cnnbench.data.catalog import Dataset
from cnnbench.data.device_data import Examples, ResidentData
from cnnbench.errors import CheckpointError, is_out_of_memory
from cnnbench.reference.custom.optimizers import CustomOptimizer
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.signals import SignalGuard
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.runs.torchrun_env import processes
from cnnbench.training.engine import EagerEngine, copy_to_cpu
from cnnbench.training.freeze import freeze
from cnnbench.training.metric_sums import Metrics
from cnnbench.training.step_log import StepLog

__all__ = [
    "Row",
    "State",
    "TrainingHistory",
    "TrainingResult",
    "TrainingState",
    "check_values",
    "find_ending",
    "is_row",
    "restore",
    "seed_for",
    "snapshot",
]

Row = dict[str, float]
State = dict[str, Any]  # the content of a checkpoint

UNFIT = "The checkpoint does not fit this run"


@dataclass(frozen=True)
class TrainingHistory:
    """The rows of metrics.csv, and the best of them on the validation set, if there is one."""

    rows: list[Row]
    best: Row | None

    @property
    def value(self) -> float:
        """The figure that runs are compared by: the validation accuracy of the best epoch.

        With data.validation=0 it is the last test accuracy. It is NaN before the first epoch ends.
        """
        if not self.rows:
            return math.nan
        return self.best["validation_accuracy"] if self.best else self.rows[-1]["test_accuracy"]


@dataclass(frozen=True)
class TrainingResult(TrainingHistory):
    """The history of a finished run, with the test metrics of its best or else last weights."""

    test: Metrics


@dataclass
class TrainingState:
    """The engine, the data and the progress of a run in training.

    `rows` holds a row for each finished epoch. `step` counts the finished steps of the current
    epoch, which took `train_s` seconds. `best` is the row of the weights in best.pt, if there is a
    validation set. `frozen` names the tensors that are not trained. `run_directory` is None on
    worker ranks, which write nothing. `stop_at` is the perf_counter time of train.max_minutes.
    """

    config: Config
    engine: EagerEngine
    dataset: Dataset
    data: ResidentData
    watch: Stopwatch
    signals: SignalGuard
    run_directory: RunDirectory | None
    rows: list[Row] = field(default_factory=list)
    step: int = 0
    train_s: float = 0.0
    best: Row | None = None
    stop_at: float = math.inf
    frozen: Sequence[str] = ()
    step_log: StepLog = field(init=False)

    def __post_init__(self) -> None:
        self.step_log = StepLog(self.config.train.log_every)

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 1."""
        return len(self.rows) + 1

    @property
    def ending(self) -> str | None:
        """The end of the run after the finished epochs, as `find_ending` names it."""
        return find_ending(self.config.train, self.rows, self.best)

    def is_best(self, row: Row) -> bool:
        """Return whether a row is better than `best` by train.select_by on the validation set."""
        key = f"validation_{self.config.train.select_by}"
        if key not in row:
            return False
        if self.best is None:
            return True
        sign = -1 if self.config.train.select_by == "loss" else 1
        return sign * row[key] > sign * self.best[key]

    @property
    def batch_size(self) -> int:
        return min(self.config.train.batch_size, len(self.data.train))

    @property
    def steps_per_epoch(self) -> int:
        steps = len(self.data.train) / self.batch_size
        return math.floor(steps) if self.config.train.last_batch == "drop" else math.ceil(steps)

    @property
    def examples_per_epoch(self) -> int:
        return min(self.steps_per_epoch * self.batch_size, len(self.data.train))

    @property
    def eval_part(self) -> str:
        """The part that is evaluated after each epoch: validation if there is one, else test."""
        return "validation" if len(self.data.validation) else "test"

    @property
    def eval_examples(self) -> Examples:
        return self.data.validation if len(self.data.validation) else self.data.test


def find_ending(train: TrainConfig, rows: list[Row], best: Row | None) -> str | None:
    """Return what ends a run with these finished epochs: "epochs", "patience" or None.

    It follows from the rows alone, so that a resumed run ends where an uninterrupted one does.
    """
    if len(rows) >= train.epochs:
        return "epochs"
    if train.patience is None or best is None:
        return None
    return "patience" if len(rows) - best["epoch"] >= train.patience else None


def snapshot(state: TrainingState, shared: State) -> State:
    """Return a copy in host memory of the state to resume from; `shared` is `engine.state()`."""
    engine = state.engine
    values = {
        "epoch": len(state.rows),
        "step": state.step,
        "train_s": state.train_s,
        "rows": list(state.rows),
        "wall_s": state.watch.as_dict(),
        "config": as_dict(state.config),
        "model": engine.model.state_dict(),
        "average": None if engine.average is None else engine.average.model.state_dict(),
        "optimizers": [optimizer.state_dict()["state"] for optimizer in engine.optimizers],
        "scaler": engine.scaler.state_dict(),
        **shared,
    }
    if state.config.train.freeze != "none":
        values["frozen"] = list(state.frozen)
    if state.step_log.every is not None:
        values["step_log"] = state.step_log.state()
    return {key: copy_to_cpu(value) for key, value in values.items()}


def check_values(last: State) -> None:
    """Check the plain values of an untrusted last.pt.

    A matching checksum proves nothing, as anyone can compute it.

    Raises:
        CheckpointError: a value has another type or range than `snapshot` writes.
    """
    config, rows, step, wall_s = (last.get(key) for key in ("config", "rows", "step", "wall_s"))
    train_s: Any = last.get("train_s")
    sound = {
        "config": isinstance(config, dict),
        "rows": isinstance(rows, list) and all(map(is_row, rows)),
        "step": type(step) is int and step >= 0,
        "examples": type(last.get("examples")) is int,
        "train_s": _is_duration(train_s) and (train_s > 0 or step == 0),
        "wall_s": isinstance(wall_s, dict) and all(map(_is_duration, wall_s.values())),
    }
    wrong = " and ".join(key for key, is_sound in sound.items() if not is_sound)
    if wrong:
        raise CheckpointError(f"{UNFIT}: invalid {wrong}.")


def is_row(value: Any) -> bool:
    """Return whether an untrusted value has the columns and numbers of a row of metrics.csv."""
    first, last = ("epoch", "lr", "train_loss", "train_accuracy"), ("epoch_s", "examples_per_s")
    headers = [
        (*first, f"{name}_loss", f"{name}_accuracy", *last) for name in ("validation", "test")
    ]
    if not isinstance(value, dict):
        return False
    columns = tuple(value)
    if columns[-1:] == ("peak_gib",):  # not measured on every system
        columns = columns[:-1]
    return columns in headers and all(map(_is_number, value.values()))


def _is_duration(value: Any) -> bool:
    return _is_number(value) and bool(value >= 0)


def _is_number(value: Any) -> bool:
    """Return whether an untrusted value is a number, not NaN, and not too large for a float."""
    return type(value) in (int, float) and abs(value) < 1e300


def restore(state: TrainingState, last: State, best: State | None) -> None:
    """Restore engine, random generators, rows and watch from the checkpoint `last`.

    `best` is the content of best.pt. Call this before `engine.prepare`, which reads the state of
    the optimizers.

    Raises:
        CheckpointError: the checkpoint has another network, optimizer or data, or was changed.
    """
    engine = state.engine
    try:
        if state.config.train.freeze != "none":
            state.frozen = last["frozen"]
            freeze(engine, state.frozen)
        if best is not None:
            if not is_row(best["row"]):
                raise ValueError("best.pt has no valid row of metrics")
            # Only to check that the weights fit: those of `last` replace them below.
            engine.eval_model.load_state_dict(best["model"])
        engine.model.load_state_dict(last["model"])
        if engine.average is not None:
            engine.average.model.load_state_dict(last["average"])
        for optimizer, values in zip(engine.optimizers, last["optimizers"], strict=True):
            _load_optimizer(optimizer, values)
        engine.scaler.load_state_dict(last["scaler"])
        engine.train_metrics.examples = int(last["examples"])
        rank_state = _state_of_rank(last)
        if "sums" in rank_state:
            engine.train_metrics.sums.copy_(rank_state["sums"])
        if "generators" in rank_state:
            generators, device = rank_state["generators"], engine.device.torch_device
            torch.set_rng_state(generators["cpu"])
            if device.type == "cuda" and generators["cuda"] is not None:
                torch.cuda.set_rng_state(generators["cuda"], device)
        state.rows = [{str(key): value for key, value in row.items()} for row in last["rows"]]
        if [row["epoch"] for row in state.rows] != list(range(1, len(state.rows) + 1)):
            raise ValueError("its rows do not number the epochs from 1")
        state.watch.add({str(part): float(seconds) for part, seconds in last["wall_s"].items()})
        if state.step_log.every is not None and "step_log" in last:
            state.step_log.load_state(last["step_log"])
        state.step = max(0, int(last["step"]))
        state.train_s = float(last["train_s"])
        state.best = None if best is None else best["row"]
        _check_progress(state)
    except Exception as error:  # the values of an untrusted file can raise anything
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{UNFIT}: {reason}") from error


def _check_progress(state: TrainingState) -> None:
    """Check that a run with this data can have the progress of `state`."""
    num_trained = min(state.step * state.batch_size, len(state.data.train))
    is_consistent = state.step == 0 or state.engine.train_metrics.examples == num_trained
    if state.step > state.steps_per_epoch or not is_consistent:
        raise ValueError(f"step {state.step} does not fit the batch size and the training examples")
    if any(f"{state.eval_part}_loss" not in row for row in state.rows):
        raise ValueError("its rows evaluate another part of the data")


def seed_for(seed: int, rank: int, epoch: int, step: int) -> int:
    """Return the seed of dropout and augmentation for a rank without generators to restore."""
    sequence = np.random.SeedSequence([seed, rank, epoch, step])
    return int(sequence.generate_state(1, np.uint64)[0]) & (2**63 - 1)


def _state_of_rank(last: State) -> State:
    """Return the metric sums and generators in the checkpoint for this rank, if there are any.

    With the same number of processes every rank has both. Otherwise rank 0 gets the total sums.
    """
    parts, ours = last.get("processes", []), processes()
    if len(parts) == ours.world_size:
        return {key: parts[ours.rank][key] for key in ("sums", "generators")}
    if ours.rank == 0:
        return {key: last[key] for key in ("sums", "generators")}
    if ours.rank < len(parts):
        return {"generators": parts[ours.rank]["generators"]}
    return {}


def _load_optimizer(optimizer: Optimizer, values: dict[int, dict[str, Any]]) -> None:
    """Load the state of the optimizer; its settings remain those of the configuration.

    Raises:
        ValueError: the state does not fit the weights.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    is_custom = isinstance(optimizer, CustomOptimizer)
    for index, state in values.items():
        for key, value in state.items():
            is_array = key.endswith("[]") if is_custom else key != "step"
            shape = weights[index].shape if is_array else torch.Size()
            if value is not None and value.shape != shape:
                raise ValueError(f"the optimizer's {key} does not have the shape of its weights")
    if len({tuple(state) for state in values.values()}) > 1:
        raise ValueError("the optimizer's state has other parts for some weights")
    optimizer_state = optimizer.state_dict()
    # State that the checkpoint lacks remains as initialized.
    state_dict = {**optimizer_state, "state": {**optimizer_state["state"], **values}}
    optimizer.load_state_dict(state_dict)
