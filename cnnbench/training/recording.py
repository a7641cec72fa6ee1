"""Record and log a run while it trains: environment, epochs, result. Only rank 0 does this."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from cnnbench.analysis.format import format_count
from cnnbench.analysis.layers import count_parameters
from cnnbench.config import FOLDER, Config, load_config
from cnnbench.runs import environment, machine
from cnnbench.runs.directory import DATASET, RunDirectory
from cnnbench.runs.torchrun_env import processes
from cnnbench.trackers.base import Trackers, start_trackers
from cnnbench.trackers.curves import Curves
from cnnbench.training.batch_last import uses_batch_last
from cnnbench.training.build import describe_engine
from cnnbench.training.device import describe_threads
from cnnbench.training.engine import EagerEngine
from cnnbench.training.resume import ResumeState
from cnnbench.training.schedules import lr_factor
from cnnbench.training.state import Row, TrainingResult, TrainingState

__all__ = ["Recorder", "log_setup", "recording"]

log = logging.getLogger("cnnbench")


class Recorder:
    """Records a run in its directory and in its trackers, and logs it."""

    def __init__(
        self, state: TrainingState, run: RunDirectory, trackers: Trackers, multiply_adds: int
    ) -> None:
        config = state.config
        tta = ", TTA hflip" if config.train.tta == "hflip" else ""
        title = f"{config.model.name} on {state.dataset.title}, {config.data.resize} px{tta}"
        self.state = state
        self.run = run
        self.trackers = trackers
        self.multiply_adds = multiply_adds
        self.curves = Curves(run.path / "curves.png", title, config.train.select_by)
        self.has_steps = False  # whether steps.csv has the rows before this process

    def step(self, row: Row) -> None:
        """Record a row of steps.csv."""
        with self.state.watch("records"):
            if self.has_steps:
                self.run.append_row("steps.csv", row)
            else:
                self.run.write_rows("steps.csv", self.state.step_log.rows, sync=False)
                self.has_steps = True
            self.trackers.log_step(row)

    def epoch(self, row: Row) -> None:
        """Record and log a finished epoch."""
        state, epochs = self.state, self.state.config.train.epochs
        part = state.eval_part
        with tqdm.external_write_mode():
            log.info(
                f"{row['epoch']:>3}/{epochs:<3}  {row['lr']:>8.3g}  "
                f"{row['train_loss']:7.4f} {row['train_accuracy']:7.4f}  "
                f"{row[f'{part}_loss']:7.4f} {row[f'{part}_accuracy']:7.4f}  "
                f"{row['epoch_s']:6.2f} s  {row['examples_per_s']:10,.0f}"
            )
        with state.watch("records"):
            self.trackers.log_epoch(row)
            if row["epoch"] < epochs:
                self.curves.update(state.rows, state.step_log.rows)

    def result(self, result: TrainingResult) -> None:
        """Record and log the result of the run."""
        config, engine = self.state.config, self.state.engine
        with self.state.watch("records"):
            steps = self.state.step_log.rows
            self.curves.draw(result.rows, result.test.accuracy, steps=steps)
        values = {
            "model": config.model.name,
            "data": config.data.name,
            "image_size": config.data.resize,
            "parameters": count_parameters(engine.model.parameters()),
            "multiply_adds": self.multiply_adds,
            "device": engine.device.torch_device.type,
            "world_size": processes().world_size,
            "precision": engine.device.precision,
            "engine": engine.name,
            "tta": config.train.tta,
            "test_accuracy": result.test.accuracy,
            "test_loss": result.test.loss,
            "ended_by": self.state.ending,
            "best": result.best,
            "final": result.rows[-1],
            "wall_s": self.state.watch.as_dict(),
        }
        self.run.write_json("result.json", values)
        self.trackers.log_result(values)
        self._log_summary(result)

    def _log_summary(self, result: TrainingResult) -> None:
        config, watch = self.state.config, self.state.watch
        train = config.train
        if self.state.ending == "patience":
            log.info(
                f"Ended after {format_count(len(result.rows), 'epoch')} by "
                f"train.patience={train.patience}: no better validation {train.select_by} since "
                f"epoch {result.best['epoch'] if result.best else 0}."
            )
        weights = "after the last epoch"
        if result.best:
            weights = f"with the weights of epoch {result.best['epoch']}, the best on validation"
            weights += " by its loss" if train.select_by == "loss" else ""
        tta = " with TTA hflip" if train.tta == "hflip" else ""
        log.info(f"Test accuracy{tta} {result.test.accuracy:.4f}, {weights}.")
        parts = [f"{part} {part_s:.1f}" for part, part_s in watch.seconds.items() if part_s >= 0.05]
        log.info(f"{watch.total_s:.1f} s in all: {', '.join(parts)}.")
        log.info(os.path.relpath(self.run.path))
        dataset = self.state.dataset
        chance = 1 / len(dataset.classes)
        accuracies = [row["train_accuracy"] for row in result.rows]
        if max(result.test.accuracy, *accuracies) < 1.5 * chance:
            recipe = " Or take the recipe experiment=photos." if dataset.name == FOLDER else ""
            log.info(
                f"The network learned nothing: its accuracy stayed at chance ({chance:.2f}). "
                f"Try another learning rate than optimizer.lr={config.optimizer.lr:g}, "
                f"more epochs, or another train.init.{recipe}"
            )


@contextmanager
def recording(
    state: TrainingState, resume: ResumeState, multiply_adds: int
) -> Iterator[Recorder | None]:
    """Record the environment, start the trackers, and yield the recorder of the run.

    Worker ranks get None.
    """
    run = state.run_directory
    if run is None:
        yield None
        return
    now = _record_environment(state, run, resume)
    with state.watch("start"):
        steps = () if state.step_log.every is None else (state.step_log.rows, state.steps_per_epoch)
        trackers = start_trackers(state.config, run.path, now, state.rows, *steps)
    with trackers.ended_after(state.signals):
        part = state.eval_part
        log.info(
            f"{'epoch':>7}  {'lr':>8}  {'train':>15}  {part:>15}  {'time':>8}  {'examples/s':>10}"
        )
        log.info(f"{'':>7}  {'':>8}  {'loss':>7} {'acc.':>7}  {'loss':>7} {'acc.':>7}")
        yield Recorder(state, run, trackers, multiply_adds)


def _record_environment(
    state: TrainingState, run: RunDirectory, resume: ResumeState
) -> dict[str, Any]:
    """Record the data set and the environment of a new run, or add those of a resumed one.

    Return the current environment. Differences from the first environment are logged.
    """
    run.write_json(DATASET, state.dataset.as_record())
    split = state.data.split.summary()
    now = {**environment.describe(), **describe_engine(state.engine), "data": split}
    if resume.last is None:
        run.write_json("environment.json", now)
        return now
    epoch, step = len(state.rows), state.step
    part = f" and {format_count(step, 'step')} of the next" if step else ""
    log.info(f"Resumes after {format_count(epoch, 'epoch')}{part}.")
    where = {"epoch": epoch, "step": step, "changes": dict(resume.changes)}
    differences = environment.record_resume(run, now, where)
    if differences:
        log.info(
            "The environment differs from that of the start, so results may differ: "
            f"{'; '.join(differences)}."
        )
    _log_lr_jump(state, load_config(resume.last["config"]))
    return now


def _log_lr_jump(state: TrainingState, before: Config) -> None:
    """Log a jump of the learning rate if a changed number of epochs causes one.

    Schedules over the whole run, such as a cosine, depend on the number of epochs.
    """
    now, steps = state.config, state.steps_per_epoch
    total, total_before = (config.train.epochs * steps for config in (now, before))
    step = (state.epoch - 1) * steps + state.step
    common_step = min(step, total_before - 1)  # the old schedule ends there
    factor_before = lr_factor(now.scheduler, common_step, steps, total_before)
    if step == total or lr_factor(now.scheduler, common_step, steps, total) == factor_before:
        return
    lr_before = before.optimizer.lr * factor_before
    lr = now.optimizer.lr * lr_factor(now.scheduler, step, steps, total)
    log.info(
        f"train.epochs={now.train.epochs} in place of {before.train.epochs} changes the schedule "
        f"scheduler={now.scheduler.name}: the learning rate jumps from {lr_before:.3g} to {lr:.3g}."
    )


def log_setup(state: TrainingState) -> None:
    """Log the network, the device, notes on the data set, and doubtful settings."""
    config, dataset, engine, data = state.config, state.dataset, state.engine, state.data
    parameters = format_count(count_parameters(engine.model.parameters()), "parameter")
    if state.frozen:
        trained = (weight for weight in engine.model.parameters() if weight.requires_grad)
        parameters += f", {count_parameters(trained):,} of them trained,"
    log.info(f"{parameters} on {_describe_device(config, engine)}")
    for note in dataset.notes:
        log.info(note)
    if dataset.validation_examples and not len(data.validation):
        unused = f"{format_count(dataset.validation_examples, 'image')} in the validation folder"
        log.info(f"Not used, as data.validation=0: {unused}. Set data.validation=0.1 to use them.")
    threads, num_cpus = config.device.threads, machine.usable_cpus()
    if threads != "auto" and threads > num_cpus:
        log.info(
            f"device.threads={threads} is more than the CPUs that this process may use "
            f"({num_cpus})."
        )
    policy = machine.replaced_wait_policy
    if policy is not None:
        log.warning(f"OMP_WAIT_POLICY={policy} is neither ACTIVE nor PASSIVE: it is ignored.")


def _describe_device(config: Config, engine: EagerEngine) -> str:
    """Return the device with its settings, such as ``cpu (NAME), fp32, ..., 2 threads``."""
    device = engine.device
    layout = "channels last" if device.channels_last else "channels first"
    settings = [device.precision, "batch last" if uses_batch_last(engine.model) else layout]
    if device.cuda_graphs:
        settings.append("CUDA graph")
    if device.compile:
        settings.append("compiled")
    if config.train.tta == "hflip":
        settings.append("test-time augmentation hflip")
    threads = describe_threads(config.device.threads)
    if processes().several:
        world_size = processes().world_size
        threads = f"{world_size} processes ({device.backend}), each with {threads}"
    settings.append(threads)
    return f"{device.torch_device.type} ({device.describe()}), {', '.join(settings)}"
