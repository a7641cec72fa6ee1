"""The training loop, to be read from top to bottom."""

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from tqdm import tqdm

from cnnbench.config import Config, as_dict
from cnnbench.data.resident import Examples, epoch_order
from cnnbench.errors import DivergedError
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.training import checkpoint
from cnnbench.training.engine import EagerEngine, Metrics
from cnnbench.training.schedules import lr_factor

__all__ = ["Row", "fit"]

Row = dict[str, float]

GLANCE_S = 0.5  # how often the host reads the sums during an epoch


def fit(
    engine: EagerEngine,
    train: Examples,
    held_out: Examples,
    config: Config,
    run: RunDirectory,
    watch: Stopwatch,
) -> Iterator[Row]:
    """Train for the configured epochs; yield the row of metrics.csv after each.

    `held_out` is the validation set, on which best.pt is chosen; with data.validation=0 it is the test
    set, which is measured each epoch and on which nothing is chosen.

    Raises:
        DivergedError: a loss is not finite. The checkpoints are of the epochs before.
    """
    selects = config.data.validation > 0 or config.data.folds is not None
    name = "validation" if selects else "test"
    best_accuracy = -1.0
    checkpoints = run.checkpoints  # there from the start, if nothing is kept
    rows: list[Row] = []
    with tqdm(
        total=config.train.epochs * len(train), unit=" examples", unit_scale=True, disable=None, leave=False
    ) as bar:
        for epoch in range(1, config.train.epochs + 1):
            began = time.perf_counter()
            lr_factors = _lr_factors(config, train, epoch)
            with watch("train"):
                trained = _train_epoch(engine, train, config, epoch, lr_factors, bar)
            train_s = time.perf_counter() - began
            with watch("evaluation"):
                measured = engine.evaluate(held_out, config.train.batch_size)
            if not math.isfinite(measured.loss):
                raise _diverged(f"The {name} loss is {measured.loss} after epoch {epoch}", config, epoch)
            rows.append(
                {
                    "epoch": epoch,
                    "lr": config.optimizer.lr * lr_factors[-1],
                    "train_loss": trained.loss,
                    "train_accuracy": trained.accuracy,
                    f"{name}_loss": measured.loss,
                    f"{name}_accuracy": measured.accuracy,
                    "epoch_s": time.perf_counter() - began,
                    "examples_per_s": len(train) / train_s,
                    "peak_gib": engine.device.peak_memory_gib(),
                }
            )
            with watch("records"):
                run.write_rows("metrics.csv", rows)
                if selects and measured.accuracy > best_accuracy:
                    best_accuracy = measured.accuracy
                    checkpoint.save(checkpoints / "best.pt", _weights(engine, config, epoch))
                checkpoint.save_rotating(checkpoints, _everything(engine, config, rows, best_accuracy))
            yield rows[-1]


def _train_epoch(
    engine: EagerEngine, train: Examples, config: Config, epoch: int, lr_factors: list[float], bar: "tqdm[Any]"
) -> Metrics:
    """One pass over the training examples; the metrics are means over the epoch, as it went."""
    bar.set_description(f"epoch {epoch}/{config.train.epochs}")
    engine.sums.reset()
    first = step = (epoch - 1) * len(lr_factors)
    glanced_at, glanced_step = time.perf_counter(), step
    order = epoch_order(len(train), config.seed, epoch)
    for examples in engine.steps(train, order, _batch_size(config, train), lr_factors):
        step += 1
        bar.update(examples)
        last = step == first + len(lr_factors)
        if last or time.perf_counter() - glanced_at > GLANCE_S:
            metrics = engine.sums.compute()
            if not math.isfinite(metrics.loss):
                steps = f"steps {glanced_step + 1} to {step}"
                raise _diverged(f"The training loss became {metrics.loss} in epoch {epoch}, {steps}", config, epoch)
            bar.set_postfix(loss=f"{metrics.loss:.4f}", accuracy=f"{metrics.accuracy:.4f}", refresh=False)
            glanced_at, glanced_step = time.perf_counter(), step
    return metrics


def _batch_size(config: Config, train: Examples) -> int:
    return min(config.train.batch_size, len(train))


def _lr_factors(config: Config, train: Examples, epoch: int) -> list[float]:
    """What the learning rate is multiplied by at each step of the epoch."""
    steps = math.ceil(len(train) / _batch_size(config, train))
    first = (epoch - 1) * steps
    return [lr_factor(config.scheduler, first + step, steps, config.train.epochs * steps) for step in range(steps)]


def _diverged(what: str, config: Config, epoch: int) -> DivergedError:
    kept = f"checkpoints/last.pt holds epoch {epoch - 1}." if epoch > 1 else "No epoch was finished: no checkpoint."
    return DivergedError(
        f"{what}. {kept}\nLower optimizer.lr={config.optimizer.lr:g}, or warm up with scheduler.warmup_epochs=1."
    )


def _weights(engine: EagerEngine, config: Config, epoch: int) -> dict[str, Any]:
    """What a checkpoint needs to be evaluated."""
    return {"epoch": epoch, "model": engine.evaluated.state_dict(), "config": as_dict(config)}


def _everything(engine: EagerEngine, config: Config, rows: list[Row], best_accuracy: float) -> dict[str, Any]:
    """What a checkpoint needs for training to go on with the same bits."""
    on_cuda = engine.device.kind.type == "cuda"
    return {
        **_weights(engine, config, len(rows)),
        "model": engine.model.state_dict(),
        "average": None if engine.average is None else engine.average.model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in engine.optimizers],
        "scaler": engine.scaler.state_dict(),
        "generators": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(engine.device.kind) if on_cuda else None,
        },
        "rows": rows,
        "best_accuracy": best_accuracy,
    }
