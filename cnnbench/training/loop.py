"""The training loop, to be read from top to bottom."""

import logging
import math
import os
import time
from collections.abc import Generator, Sequence
from typing import Any

from tqdm import tqdm

from cnnbench.analysis.format import format_count, format_time_left
from cnnbench.data.device_data import epoch_order
from cnnbench.runs.directory import log_to_file
from cnnbench.training.checkpoint import CheckpointManager
from cnnbench.training.metric_sums import Metrics
from cnnbench.training.schedules import lr_factor
from cnnbench.training.state import Row, TrainingState

__all__ = ["fit"]

log = logging.getLogger("cnnbench")

REFRESH_S = 0.5  # seconds between reads of the metric sums, which make the host wait
PROGRESS_S = 60.0  # seconds between log lines of progress if there is no progress bar


def fit(state: TrainingState) -> Generator[Row, None, None]:
    """Train until the configured number of epochs; yield the row of metrics.csv after each.

    With train.log_every also yield each row of steps.csv, which has the key "step".
    With a validation set, best.pt holds the weights of the epoch with the best validation accuracy.
    With data.validation=0 the test set is evaluated after each epoch, and there is no best.pt.

    Raises:
        DivergedError: a loss or a weight is not finite. The last checkpoint is older.
        KeyboardInterrupt, SystemExit: a signal ended the run. Its progress is saved.
        OSError: a checkpoint cannot be written.
    """
    config, engine, watch = state.config, state.engine, state.watch
    name = state.eval_part
    checkpoints = CheckpointManager(state)
    shows_bar = state.run_directory is not None and "TQDM_DISABLE" not in os.environ
    bar = tqdm(
        total=config.train.epochs * state.examples_per_epoch,
        unit=" examples",
        unit_scale=True,
        disable=None if shows_bar else True,  # None disables it unless stderr is a terminal
        leave=False,
    )
    try:
        if config.model.weights is not None and not (state.rows or state.step):
            checkpoints.save()  # so that a resumed run needs no other run
        for epoch in range(state.epoch, config.train.epochs + 1):
            with watch("train"):
                train_metrics = yield from _train_epoch(state, checkpoints, bar)
            if train_metrics.num_nonfinite:
                examples = format_count(train_metrics.num_nonfinite, "example")
                log.info(f"Epoch {epoch}: skipped the steps of {examples} with a non-finite loss.")
            evaluation_start_s = watch.spent("evaluation")
            with watch("evaluation"), engine.interruptible(state.signals):
                eval_metrics = engine.evaluate(state.eval_examples, config.train.batch_size)
            evaluation_s = watch.spent("evaluation") - evaluation_start_s
            if not math.isfinite(eval_metrics.loss):
                problem = f"The {name} loss is {eval_metrics.loss} after epoch {epoch}"
                raise checkpoints.diverged(problem)
            row = _make_row(state, train_metrics, eval_metrics, evaluation_s)
            state.rows.append(row)
            state.step, state.train_s = 0, 0.0
            if state.run_directory:
                # Without sync, as the checkpoint has the rows: training does not wait for the disk.
                with watch("records"):
                    state.run_directory.write_rows("metrics.csv", state.rows, sync=False)
            best, key = None, "validation_accuracy"
            if key in row and (state.best is None or row[key] > state.best[key]):
                best = state.best = row
            if best or checkpoints.due_after_epoch(epoch):
                checkpoints.save(best)
            yield row
    except (KeyboardInterrupt, SystemExit):
        if not state.signals.at_once:
            checkpoints.save()
            log.info(
                f"Stopped. checkpoints/last.pt holds {checkpoints.saved_progress or 'the start'}."
            )
        raise
    finally:
        bar.close()
        if not state.signals.at_once:
            checkpoints.close()


def _make_row(state: TrainingState, train: Metrics, evaluated: Metrics, evaluation_s: float) -> Row:
    """Return the row of metrics.csv of the epoch that ends."""
    config, name = state.config, state.eval_part
    row: Row = {
        "epoch": state.epoch,
        "lr": config.optimizer.lr * _lr_factors(state)[-1],
        "train_loss": train.loss,
        "train_accuracy": train.accuracy,
        f"{name}_loss": evaluated.loss,
        f"{name}_accuracy": evaluated.accuracy,
        "epoch_s": state.train_s + evaluation_s,
        "examples_per_s": state.examples_per_epoch / state.train_s,
    }
    peak_gib = state.engine.device.peak_memory_gib()
    if peak_gib is not None:
        row["peak_gib"] = peak_gib
    return row


def _train_epoch(
    state: TrainingState, checkpoints: CheckpointManager, bar: "tqdm[Any]"
) -> Generator[Row, None, Metrics]:
    """Train on the rest of an epoch; return the training metrics of the whole epoch."""
    config, engine, train = state.config, state.engine, state.data.train
    signals, watch, batch_size = state.signals, state.watch, state.batch_size
    lr_factors = _lr_factors(state)
    if state.step == 0:
        state.step_log.begin_epoch(engine.train_metrics)
        engine.train_metrics.reset()
    earlier_steps = (state.epoch - 1) * len(lr_factors)  # in earlier epochs
    bar.set_description(f"epoch {state.epoch}/{config.train.epochs}")
    earlier_examples = (state.epoch - 1) * state.examples_per_epoch
    bar.update(earlier_examples + engine.train_metrics.examples - bar.n)
    earlier_s = state.train_s - watch.spent("train")
    refreshed_at, refreshed_step = time.perf_counter(), state.step
    logged_at = refreshed_at
    order = epoch_order(len(train), config.seed, state.epoch)[: state.examples_per_epoch]
    order = order[state.step * batch_size :]
    for examples in engine.steps(train, order, batch_size, lr_factors[state.step :]):
        state.step += 1
        if signals.suspended:  # the time of the suspension is not training time
            signals.suspended = False
            if state.train_s > 0:
                watch.exclude(earlier_s + watch.spent("train") - state.train_s)
        state.train_s = earlier_s + watch.spent("train")
        bar.update(examples)
        is_old = time.perf_counter() - refreshed_at > REFRESH_S
        flags = signals.signal or 0, checkpoints.due_by_time(), is_old
        signal, is_due_by_time, refresh = engine.reduce_max(flags)
        is_due = is_due_by_time or checkpoints.due_at_step(earlier_steps + state.step)
        is_logged = state.step_log.is_due(earlier_steps + state.step)
        if state.step == len(lr_factors) or is_due or signal or refresh or is_logged:
            metrics = engine.train_metrics.compute()
            if not math.isfinite(metrics.loss):
                first, last = earlier_steps + refreshed_step + 1, earlier_steps + state.step
                became = f"The training loss became {metrics.loss} in epoch {state.epoch}"
                raise checkpoints.diverged(f"{became}, steps {first} to {last}")
            shown = {"loss": f"{metrics.loss:.4f}", "accuracy": f"{metrics.accuracy:.4f}"}
            bar.set_postfix(shown, refresh=False)
            if is_logged:
                yield _log_step(state, earlier_steps + state.step, lr_factors, bar)
            refreshed_at, refreshed_step = time.perf_counter(), state.step
            is_late = refreshed_at - logged_at >= PROGRESS_S
            if bar.disable and is_late and state.step < len(lr_factors):
                _log_progress(state)
                logged_at = refreshed_at
            if signal:
                signals.signal = signal  # another rank may have received it
                signals.check()
        if is_due:
            checkpoints.save()
    return engine.train_metrics.compute()


def _log_step(
    state: TrainingState, step: int, lr_factors: Sequence[float], bar: "tqdm[Any]"
) -> Row:
    """Add the row of steps.csv that ends with `step`, and log it: only to train.log with a bar."""
    lr = state.config.optimizer.lr * lr_factors[state.step - 1]
    epoch = step / state.steps_per_epoch
    row = state.step_log.add(step, epoch, lr, state.engine.train_metrics)
    line = f"{epoch:>7.2f}  {lr:>8.3g}  {row['train_loss']:7.4f} {row['train_accuracy']:7.4f}"
    if bar.disable:
        log.info(line)
    else:
        log_to_file(line)
    return row


def _log_progress(state: TrainingState) -> None:
    """Log the progress of the epoch, and the time left of the epoch and of the run."""
    epochs, share = state.config.train.epochs, state.step / state.steps_per_epoch
    epoch_s = state.train_s / share
    left_s = epoch_s - state.train_s
    run_s = left_s + epoch_s * (epochs - state.epoch)
    log.info(
        f"epoch {state.epoch}/{epochs}, {100 * share:.0f} %, {format_time_left(left_s)} left "
        f"(in the run {format_time_left(run_s)})"
    )


def _lr_factors(state: TrainingState) -> list[float]:
    """Return the factor of the learning rate at each step of the current epoch."""
    steps, scheduler = state.steps_per_epoch, state.config.scheduler
    total, first = state.config.train.epochs * steps, (state.epoch - 1) * steps
    return [lr_factor(scheduler, first + step, steps, total) for step in range(steps)]
