"""Where training stands, as a checkpoint holds it: all that is needed to go on with the same bits."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer

from cnnbench.config import Config, as_dict
from cnnbench.errors import CheckpointError, is_out_of_memory
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.training.checkpoint import State
from cnnbench.training.engine import EagerEngine, on_host

__all__ = ["Progress", "Row", "check_values", "restore", "snapshot"]

Row = dict[str, float]


@dataclass
class Progress:
    """The rows of the epochs that are finished, how many steps of the next are, and how long those took.

    `best` is the row of the weights in best.pt, if any are chosen; `watch` knows where all the time went.
    """

    watch: Stopwatch
    rows: list[Row] = field(default_factory=list)
    step: int = 0
    train_s: float = 0.0
    best: Row | None = None


def snapshot(engine: EagerEngine, progress: Progress, config: Config, shared: State) -> State:
    """A copy on the host of all that training needs to go on; `shared` is the engine's own state."""
    copied: State = on_host(
        {
            "epoch": len(progress.rows),
            "step": progress.step,
            "train_s": progress.train_s,
            "rows": list(progress.rows),
            "wall_s": progress.watch.as_dict(),
            "config": as_dict(config),
            "model": engine.model.state_dict(),
            "average": None if engine.average is None else engine.average.model.state_dict(),
            "optimizers": [optimizer.state_dict()["state"] for optimizer in engine.optimizers],
            "scaler": engine.scaler.state_dict(),
            **shared,
        }
    )
    return copied


def check_values(last: State) -> None:
    """Check the plain values of last.pt. That a checksum is right says nothing: anyone can compute it.

    Raises:
        CheckpointError: they are not such as are written here.
    """
    config, rows, step, wall_s = (last.get(key) for key in ("config", "rows", "step", "wall_s"))
    train_s: Any = last.get("train_s")
    sound = {
        "config": isinstance(config, dict) and "${" not in repr(config),
        "rows": isinstance(rows, list) and all(_is_row(row) for row in rows),
        "step": type(step) is int and step >= 0,
        "examples": type(last.get("examples")) is int,
        "train_s": _is_number(train_s) and train_s >= 0 and (train_s > 0 or step == 0),
        "wall_s": isinstance(wall_s, dict) and all(_is_number(each) and each >= 0 for each in wall_s.values()),
    }
    wrong = [key for key, is_sound in sound.items() if not is_sound]
    if wrong:
        raise CheckpointError(f"The checkpoint does not fit this run: cnnbench writes no such {' and '.join(wrong)}.")


def _is_row(value: Any) -> bool:
    ends = ("epoch_s", "examples_per_s", "peak_gib")
    columns = [
        ("epoch", "lr", "train_loss", "train_accuracy", f"{name}_loss", f"{name}_accuracy", *ends)
        for name in ("validation", "test")
    ]
    return isinstance(value, dict) and tuple(value) in columns and all(map(_is_number, value.values()))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # and so neither NaN nor too large for a float


def restore(engine: EagerEngine, state: State, best: State | None, watch: Stopwatch) -> Progress:
    """Put the engine and the generators where they were when `state` was taken; returns how far training had come.

    `watch` goes on from the seconds it had counted then. `best` is what best.pt holds. To be called before
    `engine.prepare`, which looks at the optimizers' state.

    Raises:
        CheckpointError: the checkpoint is of another network, optimizer or data, or was tampered with.
    """
    try:
        if best is not None:
            if not _is_row(best["row"]):
                raise ValueError("best.pt does not say what it was chosen by")
            engine.evaluated.load_state_dict(best["model"])  # to see that it fits; what follows replaces it
        engine.model.load_state_dict(state["model"])
        if engine.average is not None:
            engine.average.model.load_state_dict(state["average"])
        for optimizer, values in zip(engine.optimizers, state["optimizers"], strict=True):
            _load(optimizer, values)
        engine.scaler.load_state_dict(state["scaler"])
        engine.sums.examples = int(state["examples"])
        own = _of_process(engine.rank, engine.world_size, state)
        if "sums" in own:
            engine.sums.sums.copy_(own["sums"])
        if "generators" in own:
            torch.set_rng_state(own["generators"]["cpu"])
            if engine.device.kind.type == "cuda" and own["generators"]["cuda"] is not None:
                torch.cuda.set_rng_state(own["generators"]["cuda"], engine.device.kind)
        rows = [{str(key): value for key, value in row.items()} for row in state["rows"]]
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("its rows are not those of one epoch after the other")
        watch.add({str(part): float(seconds) for part, seconds in state["wall_s"].items()})
        chosen = None if best is None else best["row"]
        return Progress(watch, rows, max(0, int(state["step"])), float(state["train_s"]), chosen)
    except Exception as error:  # whatever the values of a stranger's file lead to
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"The checkpoint does not fit this run: {reason}") from error


def _of_process(rank: int, world_size: int, state: State) -> State:
    """The sums and generators that process `rank` goes on with, as far as there are any for it.

    Where there were as many processes, each has its own. Else the first has the sums of all.
    """
    parts = state.get("processes", [])
    if len(parts) == world_size:
        return {"sums": parts[rank]["sums"], "generators": parts[rank]["generators"]}
    if rank == 0:
        return {"sums": state["sums"], "generators": state["generators"]}
    return {"generators": parts[rank]["generators"]} if rank < len(parts) else {}


def _load(optimizer: Optimizer, values: dict[int, dict[str, Any]]) -> None:
    """Give the optimizer what it remembers; learning rates and the like stay those of the configuration."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, state in values.items():
        for key, value in state.items():
            shape = torch.Size() if key == "step" else weights[index].shape
            if value is not None and value.shape != shape:
                raise ValueError(f"the optimizer's {key} has not the shape of its weights")
    if len({tuple(state) for state in values.values()}) > 1:
        raise ValueError("the optimizer does not remember the same of all weights")
    whole = optimizer.state_dict()
    ours = {index: state for index, state in whole["state"].items() if index not in values}
    optimizer.load_state_dict({**whole, "state": {**ours, **values}})
