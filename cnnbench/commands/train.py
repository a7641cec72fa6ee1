"""`cnnbench train`: one run, from a checked configuration to a finished run directory."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from cnnbench.config import FOLDER, Config, as_dict
from cnnbench.data import sources
from cnnbench.data.catalog import Dataset
from cnnbench.data.resident import ResidentData
from cnnbench.errors import ConfigError, DivergedError, is_out_of_memory
from cnnbench.runs import environment, openmp_env
from cnnbench.runs.cpu_limits import usable_cpus
from cnnbench.runs.directory import DATASET, RunDirectory
from cnnbench.runs.stopping import Stopping
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.trackers.curves import Curves
from cnnbench.trackers.run_trackers import Trackers, tracked
from cnnbench.training import checkpoint, loop
from cnnbench.training.build import build_engine, describe, multiply_adds
from cnnbench.training.checkpoint import State
from cnnbench.training.cleanup import cleaned_up
from cnnbench.training.device import describe_threads
from cnnbench.training.engine import EagerEngine, Metrics
from cnnbench.training.state import Progress, Row, restore

__all__ = ["Earlier", "OnEpoch", "Outcome", "StoppedByOnEpoch", "Trained", "run"]

log = logging.getLogger("cnnbench")

OnEpoch = Callable[[Row], bool | None]  # what is called with the row of each epoch; False: no further


@dataclass(frozen=True)
class Trained:
    """The rows of metrics.csv, and the one chosen on the validation set, if there is one."""

    rows: list[Row]
    best: Row | None

    @property
    def value(self) -> float:
        """What runs are compared by: the best validation accuracy or, with data.validation=0, the last test one."""
        return self.best["validation_accuracy"] if self.best else self.rows[-1]["test_accuracy"]


@dataclass(frozen=True)
class Outcome(Trained):
    """As training ended, with the test metrics."""

    test: Metrics


class StoppedByOnEpoch(KeyboardInterrupt):
    """An interruption that the caller's `on_epoch` asked for: as at any other, what was done is saved."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.trained = trained


@dataclass(frozen=True)
class Earlier:
    """What a run goes on from: last.pt, best.pt if there is one, and the configuration's keys that were changed."""

    last: State
    best: State | None
    changes: Mapping[str, Any]


@cleaned_up()
def run(
    config: Config,
    run: RunDirectory,
    watch: Stopwatch,
    earlier: Earlier | None = None,
    on_epoch: OnEpoch | None = None,
) -> Outcome:
    """Train, measure on the test set, and record it all in the run directory.

    Raises:
        CnnbenchError: the data are not to be had, training diverged, memory is short, or `earlier` does not fit.
        StoppedByOnEpoch: `on_epoch` returned False; what was done is saved.
        KeyboardInterrupt, SystemExit: a signal asked for it; what was done is saved.
        OSError: the run directory cannot be written to.
    """
    watch.add({"start": watch.total_s})
    with watch("data"):
        dataset, arrays = sources.load(config.data)
    with watch("start"):
        engine = build_engine(config, dataset)
        progress = Progress(watch) if earlier is None else restore(engine, earlier.last, earlier.best, watch)
    try:
        with watch("data"):
            data = ResidentData.from_arrays(config.data, arrays, config.seed, engine.device.kind)
        loop.require_fitting(progress, engine, data.train, config)
        with _together(engine, config, progress, earlier):
            with watch("preparation"):
                engine.prepare(data.train, min(config.train.batch_size, len(data.train)))
            if earlier is not None and earlier.changes:  # the checkpoint must know at once what it goes on with
                checkpoint.save_rotating(run.checkpoints, {**earlier.last, "config": as_dict(config)})
            now = _record_environment(run, dataset, engine, data, progress, earlier)
            stopping = Stopping()
            with tracked(config, run, now, progress.rows, stopping) as trackers:
                _announce(config, dataset, engine, data)
                with stopping:
                    outcome = _train(config, dataset, run, engine, data, progress, stopping, trackers, on_epoch)
                    trackers.result(_record_result(config, dataset, run, engine, watch, outcome))
                    _conclude(config, dataset, run, watch, outcome)
                    stopping.check()
                _require_learning(config, outcome.rows)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise _out_of_memory(config, engine, error) from error
    return outcome


def _together(
    engine: EagerEngine, config: Config, progress: Progress, earlier: Earlier | None
) -> AbstractContextManager[None]:
    """What has the other processes take part, if there are any."""
    if engine.world_size == 1:
        return nullcontext()
    from cnnbench.commands.together import leading  # half a second, which one process can do without

    return leading(engine, config, earlier.last if earlier else None, progress.best)


def _train(
    config: Config,
    dataset: Dataset,
    run: RunDirectory,
    engine: EagerEngine,
    data: ResidentData,
    progress: Progress,
    stopping: Stopping,
    trackers: Trackers,
    on_epoch: OnEpoch | None,
) -> Outcome:
    labelled = ", TTA hflip" if config.train.tta == "hflip" else ""
    title = f"{config.model.name} on {dataset.title}, {config.data.resize} px{labelled}"
    picture = Curves(run.path / "curves.png", title)
    held_out = data.validation if len(data.validation) else data.test
    # closed here, whatever ends the block, so that an error of the last checkpoint is heard
    with closing(loop.fit(engine, data.train, held_out, config, run, progress, stopping)) as new_rows:
        for row in new_rows:
            with tqdm.external_write_mode():
                log.info(_epoch_line(row, config.train.epochs))
            trackers.epoch(row)
            if row["epoch"] < config.train.epochs:
                with progress.watch("records"):
                    picture.update(progress.rows)
            goes_on = None if on_epoch is None else on_epoch(dict(row))
            if goes_on is not None and not goes_on:
                new_rows.throw(StoppedByOnEpoch(Trained(progress.rows, progress.best)))
    with progress.watch("records"):  # again, where a run goes on that was killed before it had written them all
        run.write_rows("metrics.csv", progress.rows)
    outcome = _measure(config, run, engine, data, progress, stopping)
    with progress.watch("records"):
        picture.draw(outcome.rows, outcome.test.accuracy)
    return outcome


def _measure(
    config: Config, run: RunDirectory, engine: EagerEngine, data: ResidentData, progress: Progress, stopping: Stopping
) -> Outcome:
    """How training ended, with the test metrics of the weights that were chosen, if any were."""
    rows = progress.rows
    if not len(data.validation):
        return Outcome(rows, None, Metrics(rows[-1]["test_loss"], rows[-1]["test_accuracy"]))
    best = checkpoint.load(run.checkpoints / "best.pt")
    with progress.watch("evaluation"), engine.stoppable(stopping):
        engine.evaluated.load_state_dict(best["model"])
        return Outcome(rows, best["row"], engine.evaluate(data.test, config.train.batch_size))


def _record_environment(
    run: RunDirectory,
    dataset: Dataset,
    engine: EagerEngine,
    data: ResidentData,
    progress: Progress,
    earlier: Earlier | None,
) -> dict[str, Any]:
    """Write dataset.json and environment.json, or add to it where, when and how the run goes on; returns it."""
    now = {**environment.describe(), **describe(engine), "data": data.split.summary()}
    run.write_json(DATASET, dataset.as_record())
    if earlier is None:
        run.write_json("environment.json", now)
        return now
    epoch, step = len(progress.rows), progress.step
    part = f" and {step} steps of the next" if step else ""
    log.info(f"Goes on after {epoch} epoch{'' if epoch == 1 else 's'}{part}.")
    differs = environment.add_continuation(run, now, {"epoch": epoch, "step": step, "changes": dict(earlier.changes)})
    if differs:
        log.info(f"It does not go on as it began, so its figures may differ: {'; '.join(differs)}.")
    return now


def _announce(config: Config, dataset: Dataset, engine: EagerEngine, data: ResidentData) -> None:
    log.info(
        f"{config.model.name}, {_num_parameters(engine):,} parameters, on {dataset.title} "
        f"at {config.data.resize} x {config.data.resize}: {len(data.train):,} training, "
        f"{len(data.validation):,} validation and {len(data.test):,} test examples"
    )
    for note in dataset.notes:
        log.info(note)
    if dataset.validation_examples and not len(data.validation):
        unused = f"The {dataset.validation_examples:,} images in the validation folder are not used"
        log.info(f"{unused}, as data.validation=0. Set data.validation=0.1 to use them.")
    chosen = describe(engine)
    how = [chosen["precision"], "channels last" if chosen["channels_last"] else "channels first"]
    how += ["CUDA graph"] if chosen["engine"] == "graph" else []
    how += ["compiled"] if chosen["compile"] else []
    how += ["test-time augmentation hflip"] if config.train.tta == "hflip" else []
    several = f"{engine.world_size} processes ({engine.backend}), each with " if engine.world_size > 1 else ""
    threads = config.device.threads
    how.append(f"{several}{describe_threads(threads)}")
    log.info(f"{chosen['device']} ({chosen['chip']}), {', '.join(map(str, how))}")
    if threads != "auto" and threads > usable_cpus():
        log.info(f"device.threads={threads} is more than the CPUs that this process may use ({usable_cpus()}).")
    if openmp_env.replaced_wait_policy is not None:
        log.warning(f"OMP_WAIT_POLICY={openmp_env.replaced_wait_policy} is neither ACTIVE nor PASSIVE: it is ignored.")
    held_out = "validation" if len(data.validation) else "test"
    log.info(f"{'epoch':>7}  {'lr':>8}  {'train':>15}  {held_out:>15}  {'time':>8}  {'examples/s':>10}")
    log.info(f"{'':>7}  {'':>8}  {'loss':>7} {'acc.':>7}  {'loss':>7} {'acc.':>7}")


def _num_parameters(engine: EagerEngine) -> int:
    return sum(parameter.numel() for parameter in engine.model.parameters())


def _epoch_line(row: Row, epochs: int) -> str:
    held_out = "validation" if "validation_loss" in row else "test"
    return (
        f"{row['epoch']:>3}/{epochs:<3}  {row['lr']:>8.3g}  "
        f"{row['train_loss']:7.4f} {row['train_accuracy']:7.4f}  "
        f"{row[f'{held_out}_loss']:7.4f} {row[f'{held_out}_accuracy']:7.4f}  "
        f"{row['epoch_s']:6.2f} s  {row['examples_per_s']:10,.0f}"
    )


def _record_result(
    config: Config, dataset: Dataset, run: RunDirectory, engine: EagerEngine, watch: Stopwatch, outcome: Outcome
) -> dict[str, Any]:
    """Write result.json; returns what it holds."""
    result = {
        "model": config.model.name,
        "data": config.data.name,
        "image_size": config.data.resize,
        "parameters": _num_parameters(engine),
        "multiply_adds": multiply_adds(config, dataset),
        "device": engine.device.kind.type,
        "world_size": engine.world_size,
        "precision": engine.device.precision,
        "engine": engine.name,
        "tta": config.train.tta,
        "test_accuracy": outcome.test.accuracy,
        "test_loss": outcome.test.loss,
        "best": outcome.best,
        "final": outcome.rows[-1],
        "wall_s": watch.as_dict(),
    }
    run.write_json("result.json", result)
    return result


def _conclude(config: Config, dataset: Dataset, run: RunDirectory, watch: Stopwatch, outcome: Outcome) -> None:
    best = outcome.best
    whose = f"with the weights of epoch {best['epoch']}, the best on validation" if best else "after the last epoch"
    labelled = " with TTA hflip" if config.train.tta == "hflip" else ""
    log.info(f"Test accuracy{labelled} {outcome.test.accuracy:.4f}, {whose}.")
    parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in watch.seconds.items() if seconds >= 0.05)
    log.info(f"{watch.total_s:.1f} s in all: {parts}.")
    log.info(os.path.relpath(run.path))
    chance = 1 / len(dataset.classes)
    if max(outcome.test.accuracy, *(row["train_accuracy"] for row in outcome.rows)) < 1.5 * chance:
        recipe = " Or take the recipe experiment=photos." if dataset.name == FOLDER else ""
        log.info(
            f"The network learnt nothing: its accuracy stayed at chance ({chance:.2f}). "
            f"Try another learning rate than optimizer.lr={config.optimizer.lr:g}, more epochs, or another train.init."
            f"{recipe}"
        )


def _out_of_memory(config: Config, engine: EagerEngine, error: RuntimeError) -> ConfigError:
    """What did not fit, with figures, and what to lower."""
    size, device = config.data.resize, engine.device
    return ConfigError(
        f"The memory of the device does not suffice for a batch of {config.train.batch_size} images of {size} x {size} "
        f"pixels: {str(error).partition(chr(10))[0]}\n"
        f"{device.memory_in_words()}\n"
        f"Lower train.batch_size={config.train.batch_size} or data.resize={size}. cnnbench summary estimates what "
        "training takes; nothing is made smaller by itself."
    )


def _require_learning(config: Config, rows: list[Row]) -> None:
    first, last = rows[0]["train_loss"], rows[-1]["train_loss"]
    if config.train.fail_if_not_learning and not last < 0.99 * first:
        raise DivergedError(
            f"The training loss did not fall by 1 %: {first:.4f} in the first epoch, {last:.4f} in the last, "
            "and train.fail_if_not_learning=true asks that it does."
        )
