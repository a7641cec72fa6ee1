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
from cnnbench.runs.signals import TimeLimitReached
from cnnbench.training.checkpoint import CheckpointManager
from cnnbench.training.metric_sums import Metrics
from cnnbench.training.schedules import lr_factor
from cnnbench.training.state import Row, TrainingHistory, TrainingState

__all__ = ["fit"]

log = logging.getLogger("cnnbench")

REFRESH_S = 0.5  # seconds between reads of the metric sums, which make the host wait
PROGRESS_S = 60.0  # seconds between log lines of progress if there is no progress bar


def fit(state: TrainingState) -> Generator[Row, None, None]:
    """Train until train.epochs or train.patience end it; yield each epoch's row of metrics.csv.

    With train.log_every also yield each row of steps.csv, which has the key "step".
    With a validation set, best.pt holds the weights of the best epoch by train.select_by.
    With data.validation=0 the test set is evaluated after each epoch, and there is no best.pt.

    Raises:
        DivergedError: a loss or a weight is not finite. The last checkpoint is older.
        KeyboardInterrupt, SystemExit: a signal ended the run. Its progress is saved.
        TimeLimitReached: train.max_minutes ended it, at least one step on. Its progress is saved.
        OSError: a checkpoint cannot be written.
    """
    config, watch = state.config, state.watch
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
        while not state.ending:
            with watch("train"):
                train_metrics = yield from _train_epoch(state, checkpoints, bar)
            row = _evaluate_epoch(state, checkpoints, train_metrics)
            state.rows.append(row)
            state.step, state.train_s = 0, 0.0
            if state.run_directory:
                # Without sync, as the checkpoint has the rows: training does not wait for the disk.
                with watch("records"):
                    state.run_directory.write_rows("metrics.csv", state.rows, sync=False)
            best = row if state.is_best(row) else None
            state.best = best or state.best
            if best or checkpoints.due_after_epoch(len(state.rows)):
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


def _evaluate_epoch(state: TrainingState, checkpoints: CheckpointManager, train: Metrics) -> Row:
    """Evaluate at the end of an epoch; return its row of metrics.csv."""
    config, engine, watch, name = state.config, state.engine, state.watch, state.eval_part
    if train.num_nonfinite:
        examples = format_count(train.num_nonfinite, "example")
        log.info(f"Epoch {state.epoch}: skipped the steps of {examples} with a non-finite loss.")
    evaluation_start_s = watch.spent("evaluation")
    with watch("evaluation"), engine.interruptible(state.signals):
        evaluated = engine.evaluate(state.eval_examples, config.train.batch_size)
    evaluation_s = watch.spent("evaluation") - evaluation_start_s
    if not math.isfinite(evaluated.loss):
        problem = f"The {name} loss is {evaluated.loss} after epoch {state.epoch}"
        raise checkpoints.diverged(problem)
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
    peak_gib = engine.device.peak_memory_gib()
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
        is_late = time.perf_counter() >= state.stop_at
        flags = signals.signal or 0, is_late, checkpoints.due_by_time(), is_old
        signal, is_over, is_due_by_time, refresh = engine.reduce_max(flags)
        is_due = is_due_by_time or checkpoints.due_at_step(earlier_steps + state.step)
        is_logged = state.step_log.is_due(earlier_steps + state.step)
        if state.step == len(lr_factors) or is_due or signal or is_over or refresh or is_logged:
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
            is_silent = bar.disable and refreshed_at - logged_at >= PROGRESS_S
            if is_silent and state.step < len(lr_factors):
                _log_progress(state)
                logged_at = refreshed_at
            if signal:
                signals.signal = signal  # another rank may have received it
                signals.check()
            if is_over:
                log.info(f"The time of train.max_minutes={config.train.max_minutes:g} is over.")
                raise TimeLimitReached(TrainingHistory(state.rows, state.best))
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
