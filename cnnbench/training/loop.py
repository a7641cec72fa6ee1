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
from cnnbench.training.optimizers import set_lr
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
    rows: list[Row] = []
    with tqdm(
        total=config.train.epochs * len(train), unit=" examples", unit_scale=True, disable=None, leave=False
    ) as bar:
        for epoch in range(1, config.train.epochs + 1):
            began = time.perf_counter()
            with watch("train"):
                trained = _train_epoch(engine, train, config, epoch, bar)
            train_s = time.perf_counter() - began
            with watch("evaluation"):
                measured = engine.evaluate(held_out, config.train.batch_size)
            if not math.isfinite(measured.loss):
                raise _diverged(f"The {name} loss is {measured.loss} after epoch {epoch}", config, epoch)
            rows.append(
                {
                    "epoch": epoch,
                    "lr": engine.optimizer.param_groups[0]["lr"],
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
                    checkpoint.save(run.checkpoints / "best.pt", _weights(engine, config, epoch))
                checkpoint.save_rotating(run.checkpoints, _everything(engine, config, rows, best_accuracy))
            yield rows[-1]


def _train_epoch(engine: EagerEngine, train: Examples, config: Config, epoch: int, bar: "tqdm[Any]") -> Metrics:
    """One pass over the training examples; the metrics are means over the epoch, as it went.

    Every example counts the same: the last batch, if smaller, moves the weights by its share of a full
    step. At a full step its noisier gradient would be the last thing before each evaluation.
    """
    batch_size = min(config.train.batch_size, len(train))
    steps_per_epoch = math.ceil(len(train) / batch_size)
    total_steps = config.train.epochs * steps_per_epoch
    step = (epoch - 1) * steps_per_epoch
    bar.set_description(f"epoch {epoch}/{config.train.epochs}")
    engine.model.train()
    engine.sums.reset()
    glanced_at, glanced_step = time.perf_counter(), step
    for images, labels in train.batches(batch_size, epoch_order(len(train), config.seed, epoch)):
        factor = lr_factor(config.scheduler, step, steps_per_epoch, total_steps)
        set_lr(engine.optimizer, config.optimizer.lr * factor)
        engine.train_step(images, labels, weight=len(labels) / batch_size)
        step += 1
        bar.update(len(labels))
        last = step == epoch * steps_per_epoch
        if last or time.perf_counter() - glanced_at > GLANCE_S:
            metrics = engine.sums.compute()
            if not math.isfinite(metrics.loss):
                steps = f"steps {glanced_step + 1} to {step}"
                raise _diverged(f"The training loss became {metrics.loss} in epoch {epoch}, {steps}", config, epoch)
            bar.set_postfix(loss=f"{metrics.loss:.4f}", accuracy=f"{metrics.accuracy:.4f}", refresh=False)
            glanced_at, glanced_step = time.perf_counter(), step
    return metrics


def _diverged(what: str, config: Config, epoch: int) -> DivergedError:
    kept = f"checkpoints/last.pt holds epoch {epoch - 1}." if epoch > 1 else "No epoch was finished: no checkpoint."
    return DivergedError(
        f"{what}. {kept}\nLower optimizer.lr={config.optimizer.lr:g}, or warm up with scheduler.warmup_epochs=1."
    )


def _weights(engine: EagerEngine, config: Config, epoch: int) -> dict[str, Any]:
    """What a checkpoint needs to be evaluated."""
    return {"epoch": epoch, "model": engine.model.state_dict(), "config": as_dict(config)}


def _everything(engine: EagerEngine, config: Config, rows: list[Row], best_accuracy: float) -> dict[str, Any]:
    """What a checkpoint needs for training to go on with the same bits."""
    on_cuda = engine.device.kind.type == "cuda"
    return {
        **_weights(engine, config, len(rows)),
        "optimizer": engine.optimizer.state_dict(),
        "scaler": engine.scaler.state_dict(),
        "generators": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(engine.device.kind) if on_cuda else None,
        },
        "rows": rows,
        "best_accuracy": best_accuracy,
    }
