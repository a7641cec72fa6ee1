"""Train one run, from a checked configuration to a finished run directory.

The command line, jobs of sweeps, `cnnbench resume`, cnnbench.api and every rank of torchrun call
`train`.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TypeAlias

import torch

from cnnbench.analysis.format import format_count
from cnnbench.analysis.memory import estimate_memory
from cnnbench.config import Config, as_dict, to_yaml
from cnnbench.data import datasets
from cnnbench.data.device_data import ResidentData
from cnnbench.data.splits import check_sizes
from cnnbench.errors import ConfigError, DivergedError, is_out_of_memory
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.reading import read_accuracy
from cnnbench.runs.signals import SignalGuard
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.runs.torchrun_env import processes
from cnnbench.training import checkpoint
from cnnbench.training.build import balance_classes, build_engine, on_meta
from cnnbench.training.device import Device, cleaned_up
from cnnbench.training.freeze import freeze
from cnnbench.training.loop import fit
from cnnbench.training.metric_sums import Metrics
from cnnbench.training.preflight import Preflight, advise_accumulate, check
from cnnbench.training.recording import Recorder, log_setup, recording
from cnnbench.training.resume import ResumeState, check_resume, describe_finished, reopen_run
from cnnbench.training.state import (
    Row,
    TrainingHistory,
    TrainingResult,
    TrainingState,
    restore,
    seed_for,
)

__all__ = ["OnEpoch", "StoppedByOnEpoch", "build_state", "resume_job", "train"]

log = logging.getLogger("cnnbench")

OnEpoch = Callable[[Row], bool | None]  # called with the row of each epoch; False ends the run
Group: TypeAlias = "torch.distributed.ProcessGroup | None"


class StoppedByOnEpoch(KeyboardInterrupt):
    """`on_epoch` ended the run. As at any interruption, its progress is saved."""

    def __init__(self, history: TrainingHistory) -> None:
        super().__init__()
        self.history = history


@cleaned_up()
def train(
    config: Config,
    run_directory: RunDirectory | None,
    resume: ResumeState | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    checked: Preflight | None = None,
    started: float | None = None,
) -> TrainingResult:
    """Train, evaluate on the test set, and record the run in its directory.

    With several processes every rank calls this. Rank 0 passes the run directory, and broadcasts
    the configuration from here. The worker ranks pass that configuration and None, and record
    nothing.

    Args:
        config: checked here, unless `checked` is given.
        run_directory: claimed or reopened by the caller; released at the end.
        resume: the state to resume from; None for a new run.
        on_epoch: called after each epoch, once it is recorded. If it returns False the run ends.
        checked: the result of `preflight.check` for `config`.
        started: the perf_counter time at which wall time begins, by default now.

    Raises:
        CnnbenchError: the configuration is wrong, the data are unavailable, training diverged,
            memory is short, or the checkpoint does not fit.
        StoppedByOnEpoch: `on_epoch` returned False; the progress is saved.
        TimeLimitReached: train.max_minutes have passed; the progress is saved.
        KeyboardInterrupt, SystemExit: a signal ended the run; the progress is saved.
        OSError: the run directory cannot be written to.
    """
    watch = Stopwatch(time.perf_counter() if started is None else started)
    with nullcontext() if run_directory is None else run_directory.recorded_status():
        if run_directory is not None:
            _record_start(run_directory, config, resume)
        if checked is None:
            checked = check(config, announce=True, starts=resume is None or resume.last is None)
        elif not checked.is_announced:
            log.info(checked.heading)
        if run_directory is not None and resume is None:
            log.info(os.path.relpath(run_directory.path))
        watch.add({"start": watch.total_s})
        try:
            state = build_state(config, run_directory, checked, watch)
            with _join_ranks(state, resume or ResumeState()) as (group, resume):
                _restore_and_prepare(state, resume, group)
                with recording(state, resume, checked.multiply_adds) as recorder:
                    with state.signals:
                        result = _fit_and_test(state, recorder, on_epoch)
                        if recorder is not None:
                            recorder.result(result)
                        state.signals.check()
                    _require_learning(config, result.rows)
                    return result
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise _out_of_memory(config, checked.device, error) from error


def resume_job(directory: Path, config: Config, started: float | None = None) -> float:
    """Resume a job of a sweep in its run directory; return the value of `TrainingHistory`.

    Raises:
        ConfigError: the run is in use, or was trained with other values.
        CnnbenchError: as in `train`.
    """
    with reopen_run(directory, config) as (run_directory, config, resume):
        if resume.is_finished:
            accuracy = read_accuracy(directory)
            if accuracy is not None:
                log.info(describe_finished(directory))
                return accuracy
        checked = check_resume(directory, config, resume)
        return train(config, run_directory, resume, checked=checked, started=started).value


def _record_start(run: RunDirectory, config: Config, resume: ResumeState | None) -> None:
    """Record the configuration, so that the run can be resumed, and log problems of `resume`."""
    if resume is not None:
        run.set_status("running")
    run.write_text("config.yaml", to_yaml(config))
    if resume is not None:
        for problem in resume.problems:
            log.warning(problem)
        if resume.last is None:
            log.info("There is no checkpoint yet: training starts from the beginning.")


@contextmanager
def _join_ranks(state: TrainingState, resume: ResumeState) -> Iterator[tuple[Group, ResumeState]]:
    """Open the process group for the block; yield the group and the resume state of rank 0.

    The worker ranks get the names of the frozen tensors, too.
    Worker ranks wait for the configuration until now, so an earlier error ends only rank 0.
    """
    if not processes().several:
        yield None, resume
        return
    # Imported here, as a single process need not wait half a second for it.
    from cnnbench.training import distributed

    if state.run_directory is not None:  # the worker ranks call `train` with it
        distributed.broadcast(as_dict(state.config))
    with distributed.process_group(state.engine.device.backend) as group:
        shared = (resume, state.frozen)
        resume, state.frozen = distributed.broadcast_checkpoint(shared, group)
        yield group, resume


def build_state(
    config: Config, run: RunDirectory | None, checked: Preflight, watch: Stopwatch
) -> TrainingState:
    """Load the data, build the network and its engine, and take the weights to start from."""
    device, start = checked.device, checked.start
    with watch("data"):
        dataset, arrays = datasets.load_dataset(config.data)
    with watch("start"):
        engine = build_engine(config, dataset, device)
    with watch("data"):
        data = ResidentData.from_arrays(config.data, arrays, config.seed, device.torch_device)
        if config.data.class_weights == "balanced":
            balance_classes(engine, dataset, data.train.labels)
    signals = SignalGuard(prints_notice=run is not None)
    state = TrainingState(config, engine, dataset, data, watch, signals, run)
    if config.train.max_minutes is not None:
        state.stop_at = watch.started + 60 * config.train.max_minutes
    if start is not None:
        start.load_into(engine)
        state.frozen = start.frozen
        log.info(start.summary)
        if run is not None:
            run.write_json("weights.json", start.as_record())
    return state


def _restore_and_prepare(state: TrainingState, resume: ResumeState, group: Group) -> None:
    """Restore the checkpoint of a resumed run, and prepare the first step on all ranks."""
    config, engine, run, last = state.config, state.engine, state.run_directory, resume.last
    rank, step = processes().rank, 0 if last is None else last["step"]
    with state.watch("start"):
        if rank > 0:  # rank 0 keeps the generators that have initialized the weights
            torch.manual_seed(seed_for(config.seed, rank, resume.epochs, step))
        if last is not None:
            restore(state, last, resume.best)
        elif state.frozen:
            freeze(engine, state.frozen)
    if group is not None:
        engine.join(group, config.device.sync_batchnorm)
    if run is not None:
        log_setup(state)
    with state.watch("preparation"):
        engine.prepare(state.data.train, state.batch_size)
    if run is not None and last is not None and resume.changes:
        # A resume after an early interruption must use the changed configuration.
        checkpoint.save_rotating(run.checkpoints, {**last, "config": as_dict(config)})


def _fit_and_test(
    state: TrainingState, recorder: Recorder | None, on_epoch: OnEpoch | None
) -> TrainingResult:
    """Train all epochs, then evaluate the best or else the last weights on the test set."""
    # Close the generator here, so that an error of the last checkpoint is raised.
    with closing(fit(state)) as rows:
        for row in rows:
            if "step" in row:
                if recorder is not None:
                    recorder.step(row)
                continue
            if recorder is not None:
                recorder.epoch(row)
            answer = None if on_epoch is None else on_epoch(dict(row))
            if answer is not None and not answer:
                rows.throw(StoppedByOnEpoch(TrainingHistory(state.rows, state.best)))
    engine, run = state.engine, state.run_directory
    if run is not None:
        # Again, as a run that was killed and resumed may lack rows.
        with state.watch("records"):
            run.write_rows("metrics.csv", state.rows)
            if state.step_log.rows:
                run.write_rows("steps.csv", state.step_log.rows)
    if not len(state.data.validation):
        last = state.rows[-1]
        return TrainingResult(state.rows, None, Metrics(last["test_loss"], last["test_accuracy"]))
    with state.watch("evaluation"), engine.interruptible(state.signals):
        if run is not None:  # rank 0 sends these weights to the other ranks
            best = checkpoint.load_checkpoint(run.checkpoints / "best.pt")
            engine.eval_model.load_state_dict(best["model"])
        test = engine.evaluate(state.data.test, state.config.train.batch_size)
    return TrainingResult(state.rows, state.best, test)


def _require_learning(config: Config, rows: list[Row]) -> None:
    """Raise DivergedError if train.fail_if_not_learning is true and the loss has not fallen."""
    first, last = rows[0]["train_loss"], rows[-1]["train_loss"]
    if config.train.fail_if_not_learning and not last < 0.99 * first:
        raise DivergedError(
            f"The training loss did not fall by 1 %: {first:.4f} in the first epoch, {last:.4f} in "
            "the last, but train.fail_if_not_learning=true requires it."
        )


def _out_of_memory(config: Config, device: Device, error: RuntimeError) -> ConfigError:
    """Return the error for a batch that does not fit, with the memory and the keys to lower."""
    size, reason = config.data.resize, str(error).partition("\n")[0]
    dataset = datasets.dataset_info(config.data)
    batch_size = min(config.train.batch_size, check_sizes(config.data, dataset))
    micro_batch = math.ceil(batch_size / config.train.accumulate)
    network, images = on_meta(config, dataset, micro_batch)
    memory = estimate_memory(
        network, images, config.optimizer, device.autocast_dtype or device.dtype
    )
    more = 2 * config.train.accumulate
    split = advise_accumulate(config, memory, micro_batch, device.whole_memory(), at_least=more)
    return ConfigError(
        f"Out of memory for a batch of {format_count(config.train.batch_size, 'image')} of "
        f"{size} x {size} pixels: {reason}\n"
        f"{device.describe_memory()}\n"
        f"Lower train.batch_size={config.train.batch_size} or data.resize={size}{split}. "
        "cnnbench summary "
        "estimates the memory of training. The batch size is never reduced automatically."
    )
