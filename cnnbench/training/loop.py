"""The training loop, to be read from top to bottom."""

import logging
import math
import os
import time
from collections.abc import Generator
from typing import Any

from tqdm import tqdm

from cnnbench.config import Config
from cnnbench.data.resident import Examples, epoch_order
from cnnbench.errors import CheckpointError
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.stopping import Stopping
from cnnbench.training.checkpoint_manager import CheckpointManager
from cnnbench.training.engine import EagerEngine, Metrics
from cnnbench.training.schedules import lr_factor
from cnnbench.training.state import Progress, Row

__all__ = ["fit", "require_fitting"]

log = logging.getLogger("cnnbench")

NO_BAR = True if "TQDM_DISABLE" in os.environ else None  # None: only where there is no terminal
GLANCE_S = 0.5  # how often the host reads the sums during an epoch


def fit(
    engine: EagerEngine,
    train: Examples,
    held_out: Examples,
    config: Config,
    run: RunDirectory | None,
    progress: Progress,
    stopping: Stopping,
) -> Generator[Row, None, None]:
    """Train from `progress` on for the configured epochs; yield the row of metrics.csv after each.

    `held_out` is the validation set, on which best.pt is chosen; with data.validation=0 it is the test
    set, which is measured each epoch and on which nothing is chosen. A process that follows another has no `run`.

    Raises:
        DivergedError: a loss or a weight is not finite. The checkpoints are from before.
        KeyboardInterrupt, SystemExit: a signal asked for it. What was done is saved.
        OSError: a checkpoint cannot be written.
    """
    name = _held_out_name(config)
    selects = name == "validation"
    watch = progress.watch
    saver = CheckpointManager(run.checkpoints if run else None, engine, progress, config)
    silent = NO_BAR if run else True
    bar = tqdm(total=config.train.epochs * len(train), unit=" examples", unit_scale=True, disable=silent, leave=False)
    try:
        for epoch in range(len(progress.rows) + 1, config.train.epochs + 1):
            with watch("train"):
                trained = _train_epoch(engine, train, config, progress, saver, stopping, bar)
            if trained.left_out:
                log.info(f"In epoch {epoch} the steps of {trained.left_out:,} examples are skipped: no finite loss.")
            evaluated_s = watch.spent("evaluation")
            with watch("evaluation"), engine.stoppable(stopping):
                measured = engine.evaluate(held_out, config.train.batch_size)
            evaluated_s = watch.spent("evaluation") - evaluated_s
            if not math.isfinite(measured.loss):
                raise saver.diverged(f"The {name} loss is {measured.loss} after epoch {epoch}")
            progress.rows.append(
                {
                    "epoch": epoch,
                    "lr": config.optimizer.lr * _lr_factors(config, train, epoch)[-1],
                    "train_loss": trained.loss,
                    "train_accuracy": trained.accuracy,
                    f"{name}_loss": measured.loss,
                    f"{name}_accuracy": measured.accuracy,
                    "epoch_s": progress.train_s + evaluated_s,
                    "examples_per_s": len(train) / progress.train_s,
                    "peak_gib": engine.device.peak_memory_gib(),
                }
            )
            row = progress.rows[-1]
            progress.step, progress.train_s = 0, 0.0
            if run:
                # Not synced: the checkpoint has the rows, and training need not wait for the disk.
                with watch("records"):
                    run.write_rows("metrics.csv", progress.rows, sync=False)
            better = selects and (progress.best is None or measured.accuracy > progress.best["validation_accuracy"])
            if better:
                progress.best = row
            if better or saver.due_after_epoch(epoch):
                saver.save(best=row if better else None)
            yield row
    except (KeyboardInterrupt, SystemExit):
        if not stopping.at_once:
            saver.save()
            log.info(f"Stopped. checkpoints/last.pt holds {saver.kept or 'the start'}.")
        raise
    finally:
        bar.close()
        if not stopping.at_once:
            saver.close()


def _train_epoch(
    engine: EagerEngine,
    train: Examples,
    config: Config,
    progress: Progress,
    saver: CheckpointManager,
    stopping: Stopping,
    bar: "tqdm[Any]",
) -> Metrics:
    """What is left of a pass over the training examples; the metrics are means over the epoch, as it went."""
    epoch, watch = len(progress.rows) + 1, progress.watch
    batch_size, lr_factors = _batch_size(config, train), _lr_factors(config, train, epoch)
    if progress.step == 0:
        engine.sums.reset()
    before = (epoch - 1) * len(lr_factors)  # steps, of earlier epochs
    bar.set_description(f"epoch {epoch}/{config.train.epochs}")
    bar.update((epoch - 1) * len(train) + engine.sums.examples - bar.n)
    earlier_s = progress.train_s - watch.spent("train")
    glanced_at, glanced_step = time.perf_counter(), progress.step
    order = epoch_order(len(train), config.seed, epoch)[progress.step * batch_size :]
    for examples in engine.steps(train, order, batch_size, lr_factors[progress.step :]):
        progress.step += 1
        if stopping.suspended:  # the time since the last step says nothing about the speed
            stopping.suspended = False
            if progress.train_s > 0:
                watch.exclude(earlier_s + watch.spent("train") - progress.train_s)
        progress.train_s = earlier_s + watch.spent("train")
        bar.update(examples)
        wishes = stopping.signal or 0, saver.is_timely(), time.perf_counter() - glanced_at > GLANCE_S
        stop, timely, glance = engine.agree(wishes)
        due = timely or saver.due_at_step(before + progress.step)
        if progress.step == len(lr_factors) or due or stop or glance:
            metrics = engine.sums.compute()
            if not math.isfinite(metrics.loss):
                steps = f"steps {before + glanced_step + 1} to {before + progress.step}"
                raise saver.diverged(f"The training loss became {metrics.loss} in epoch {epoch}, {steps}")
            bar.set_postfix(loss=f"{metrics.loss:.4f}", accuracy=f"{metrics.accuracy:.4f}", refresh=False)
            glanced_at, glanced_step = time.perf_counter(), progress.step
            if stop:
                stopping.signal = stop  # which may have come to another process
                stopping.check()
        if due:
            saver.save()
    return engine.sums.compute()


def require_fitting(progress: Progress, engine: EagerEngine, train: Examples, config: Config) -> None:
    """Check that a run with these examples can have come as far as `progress` says.

    Raises:
        CheckpointError: it cannot.
    """
    batch_size = _batch_size(config, train)
    taken = min(progress.step * batch_size, len(train)) if progress.step else engine.sums.examples
    if progress.step > math.ceil(len(train) / batch_size) or engine.sums.examples != taken:
        raise CheckpointError(f"The checkpoint does not fit this run: no epoch of it has {progress.step} such steps.")
    if any(f"{_held_out_name(config)}_loss" not in row for row in progress.rows):
        raise CheckpointError("The checkpoint does not fit this run: another part of the data was measured.")


def _held_out_name(config: Config) -> str:
    return "validation" if config.data.validation > 0 or config.data.folds is not None else "test"


def _batch_size(config: Config, train: Examples) -> int:
    return min(config.train.batch_size, len(train))


def _lr_factors(config: Config, train: Examples, epoch: int) -> list[float]:
    """What the learning rate is multiplied by at each step of the epoch."""
    steps = math.ceil(len(train) / _batch_size(config, train))
    first = (epoch - 1) * steps
    return [lr_factor(config.scheduler, first + step, steps, config.train.epochs * steps) for step in range(steps)]
