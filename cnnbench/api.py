"""Train, load, evaluate and predict from Python, in this process.

    import cnnbench

    result = cnnbench.api.train("model=lenet_relu", "data=sample", "train.epochs=3")
    print(result.value, cnnbench.api.evaluate(result.directory).accuracy)

    train(*overrides)        trains a network and returns a `Result`
    load(run)                returns the trained network, a `TrainedModel`
    evaluate(run)            returns its metrics on the test set, an `Evaluation`
    predict(run, images)     returns a `Prediction` for each image file
    list_runs(*directories)  returns a dictionary for each run, for pandas

A run is named by its directory. Overrides are those of the command line, such as "device=cpu".
Errors that the user can fix are subclasses of `cnnbench.errors.CnnbenchError`.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# This import sets how threads wait, which PyTorch reads when it is imported.
from cnnbench.cli.claimed_run import ClaimedRun, claim_run
from cnnbench.cli.hydra_app import compose_config, conf_folder, write_hydra_files

# isort: split
from cnnbench.analysis.metrics import Evaluation
from cnnbench.commands.evaluate import evaluate_model
from cnnbench.commands.predict import classify_files
from cnnbench.errors import ConfigError
from cnnbench.reports.predictions import Prediction
from cnnbench.reports.tables import Cell, tabulate_runs
from cnnbench.runs.directory import RunDirectory, resume_command
from cnnbench.runs.reading import find_figure, read_accuracy, read_json_or_empty
from cnnbench.runs.records import read_records, read_rows
from cnnbench.runs.signals import TimeLimitReached
from cnnbench.runs.torchrun_env import processes
from cnnbench.sweeps.slurm import end_or_restart
from cnnbench.trackers.live import show_live
from cnnbench.training import run as training
from cnnbench.training.load_model import TrainedModel, load_trained_model
from cnnbench.training.run import OnEpoch, StoppedByOnEpoch
from cnnbench.training.state import Row, TrainingHistory

__all__ = [
    "Evaluation",
    "Prediction",
    "Result",
    "Row",
    "TrainedModel",
    "evaluate",
    "list_runs",
    "load",
    "predict",
    "train",
]


@dataclass(frozen=True)
class Result:
    """The result of a training run.

    `directory` is the absolute path of the run directory. `rows` are the rows of metrics.csv, one
    for each epoch. Accuracies are in [0, 1]. `best` is the row of the epoch that train.select_by
    chooses, or None with data.validation=0. `value` is the figure by which runs are compared: the
    validation accuracy of that epoch or, with data.validation=0, the last test accuracy; NaN before
    the first epoch ends. `test_accuracy` is the accuracy of the best epoch's weights on the
    test set (of the last weights with data.validation=0). It is None if the run was stopped.
    """

    directory: Path
    rows: list[Row]
    best: Row | None
    value: float
    test_accuracy: float | None

    @property
    def stopped(self) -> bool:
        """Return whether `on_epoch` or train.max_minutes stopped the run before its test."""
        return self.test_accuracy is None

    def __repr__(self) -> str:
        path, epochs = os.path.relpath(self.directory), len(self.rows)
        test = "None" if self.test_accuracy is None else f"{self.test_accuracy:.4f}"
        return f"Result({path!r}, epochs={epochs}, value={self.value:.4f}, test_accuracy={test})"


def load(run: str | Path, *overrides: str, allow_custom_model: bool = False) -> TrainedModel:
    """Load the trained network of a run directory.

    If the run had a validation set, the weights of its best epoch are used; otherwise the last
    weights. The directory may be untrusted: a custom model is imported only with
    `allow_custom_model`. Loading sets the threads and the precision of the whole process.

    Args:
        run: the run directory.
        overrides: overrides that `cnnbench evaluate` takes, such as "device=cpu".
        allow_custom_model: import and run a custom model that the run names.

    Returns:
        The network on its device. Called with uint8 images (N, C, H, W), it returns logits (N, K)
        for its K `classes`.

    Raises:
        ConfigError: the directory is not a training run, is not trusted, or an override is wrong.
        CheckpointError: there is no checkpoint, or it is damaged or refused.
    """
    return load_trained_model(Path(run), overrides, conf_folder(), "load", allow_custom_model)


def evaluate(
    run: str | Path, *overrides: str, match_by_order: bool = False, allow_custom_model: bool = False
) -> Evaluation:
    """Evaluate the network of a run on its test set, as `cnnbench evaluate`; write no files.

    Args:
        run: the run directory. See `load` for untrusted ones.
        overrides: such as "device=cpu", or "data=mnist" to evaluate on another test set.
        match_by_order: compare classes with other names by their order.
        allow_custom_model: import and run a custom model that the run names.

    Returns:
        The metrics over the N test images: loss, accuracy and its 95 % interval, metrics of each
        class, and the confusion matrix (K, K) with a row for each true class.

    Raises:
        ConfigError: as for `load`, or the test set has classes that the network was not trained on.
        CheckpointError: as for `load`.
        DataError: the data cannot be found or downloaded, or are damaged.
    """
    trained = load(run, *overrides, allow_custom_model=allow_custom_model)
    return evaluate_model(trained, match_by_order)[1]


def predict(
    run: str | Path,
    images: str | Path | Iterable[str | Path],
    *overrides: str,
    topk: int = 3,
    allow_custom_model: bool = False,
) -> list[Prediction]:
    """Classify image files with the network of a run, as `cnnbench predict`.

    To classify arrays or tensors, call the network that `load` returns.

    Args:
        run: the run directory. See `load` for untrusted ones.
        images: an image file, a folder of images, an IDX file (plain or gzipped), or several.
        overrides: such as "device=cpu".
        topk: how many classes to return for each image, the most probable first.
        allow_custom_model: import and run a custom model that the run names.

    Returns:
        A prediction for each image, in the order of the files: the name of the `image` and its
        `classes`, pairs of a name and a probability. An image that could not be classified has an
        `error` and no classes.

    Raises:
        ConfigError: as for `load`, or `topk` is less than 1.
        CheckpointError: as for `load`.
    """
    if topk < 1:
        raise ConfigError(f"topk={topk} is out of range. It must be at least 1.")
    # Predictions read no data set, so an untrusted run needs no consent for its data folder.
    trained = load(run, *overrides, "data.root=null", allow_custom_model=allow_custom_model)
    paths = [images] if isinstance(images, (str, Path)) else images
    return list(classify_files(trained, [Path(path) for path in paths], topk))


def list_runs(*directories: str | Path) -> list[dict[str, Any]]:
    """Return a dictionary for each run in the directories, as `pandas.DataFrame` takes them.

    All have the columns of report.csv: settings by their keys, such as "optimizer.lr" and each
    overridden key; figures, such as "test_accuracy" in [0, 1] and "train_eval_s" in s; "device",
    "precision", "status", "error" and "directory". Numbers are int or float, and None is a value
    that a run does not have. An unfinished run has its best validation accuracy so far.

    Args:
        directories: runs, sweeps or folders of them, such as "outputs". They may be untrusted.

    Raises:
        ConfigError: a directory holds no run.
        OSError: a directory cannot be read.
    """
    records = [record for directory in directories for record in read_records(Path(directory))]
    columns = tabulate_runs(records)
    names = [column.name for column in columns]
    rows = zip(*(column.cells for column in columns), strict=True)
    return [dict(zip(names, map(_plain_value, row), strict=True)) for row in rows]


def _plain_value(cell: Cell) -> Any:
    """Return the value of a cell: None, a bool, an int, a float or a text."""
    if cell.number is None:
        return {"": None, "true": True, "false": False}.get(cell.text, cell.text)
    return int(cell.number) if cell.number.is_integer() else cell.number


def train(
    *overrides: str,
    on_epoch: OnEpoch | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    live: bool = False,
) -> Result:
    """Train a network as `cnnbench OVERRIDE...` does, with the same numbers and the same files.

    Seeds, threads and precision belong to the whole process, so it trains one run at a time, in
    any thread. They stay as the run has set them. Log lines go to train.log and to the logger
    "cnnbench".

    Args:
        overrides: such as "model=lenet" or "train.epochs=3".
        on_epoch: called after each epoch with its row of metrics.csv, once the row is recorded. If
            it returns False, the run stops: it is saved with the status "interrupted", and
            `cnnbench resume` can resume it. If it raises an exception, the run's status is
            "failed" and `train` raises that exception.
        directory: the run directory, by default a new one under outputs/. If it holds a run of the
            same configuration, that is resumed or, if it is finished, its result is returned.
        progress: print log lines to stdout and, on a terminal, a progress bar.
        live: in a notebook, show a progress bar and the curves, which grow after each epoch and,
            with train.log_every, within epochs. Elsewhere show the progress bar, on a terminal.

    Returns:
        The metrics of each epoch, the test accuracy and the run directory.

    Raises:
        CnnbenchError: the error that the command line would report, such as `DivergedError`.
        ConfigError: an override is wrong, another run is under way in this process, or the
            directory holds a run of another configuration or is in use.
        KeyboardInterrupt, SystemExit: a signal, such as SIGINT or SIGTERM. The run is saved first.
        OSError: the run directory cannot be written to.
    """
    started = time.perf_counter()
    if processes().several:
        raise ConfigError(
            "cnnbench.api trains in one process. "
            "Several train together by torchrun -m cnnbench OVERRIDE..."
        )
    with _hold_run_lock():
        composed = compose_config(overrides)
        claimed = claim_run(composed, None if directory is None else Path(directory))
        run = claimed.run
        assert run is not None  # only torchrun resumes an earlier attempt
        if claimed.finished:
            return _read_result(claimed)
        try:
            with _log_to(run.path / "train.log", progress), _show(claimed, progress, live):
                write_hydra_files(composed, run.path)
                return _train(claimed, run, on_epoch, started)
        except (KeyboardInterrupt, SystemExit) as ending:
            end_or_restart(ending)
            raise
        finally:
            run.release()


def _train(
    claimed: ClaimedRun, run: RunDirectory, on_epoch: OnEpoch | None, started: float
) -> Result:
    history: TrainingHistory
    test_accuracy = None
    try:
        config, state, checked = claimed.settings, claimed.resume, claimed.checked
        result = training.train(config, run, state, on_epoch, checked=checked, started=started)
        history, test_accuracy = result, result.test.accuracy
    except (StoppedByOnEpoch, TimeLimitReached) as stopped:
        history = stopped.history
    return Result(run.path.absolute(), history.rows, history.best, history.value, test_accuracy)


def _read_result(claimed: ClaimedRun) -> Result:
    """Return the recorded result of a finished run."""
    path, value, state = claimed.directory, read_accuracy(claimed.directory), claimed.resume
    assert value is not None
    rows = state.rows if state and state.rows else list(read_rows(path))
    result = read_json_or_empty(path / "result.json")
    test_accuracy = find_figure(result, "test_accuracy")
    return Result(path.absolute(), rows, result.get("best"), value, test_accuracy)


_run_lock = threading.Lock()


@contextmanager
def _hold_run_lock() -> Iterator[None]:
    if not _run_lock.acquire(blocking=False):
        raise ConfigError(
            "A run is under way in this process. Runs share the seeds and threads of a process, so "
            "only one can train at a time. Start several processes instead "
            "(with Optuna, processes that share a storage, not n_jobs)."
        )
    try:
        yield
    finally:
        _run_lock.release()


@contextmanager
def _log_to(path: Path, progress: bool) -> Iterator[None]:
    """Write the log lines of the block to `path` and, with `progress`, to stdout.

    The caller's handlers get the lines that its log level lets through.
    """
    log = logging.getLogger("cnnbench")
    level, caller_level = log.level, log.getEffectiveLevel()
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # Without a handler Python prints warnings on stderr, and `progress` has printed them already.
    has_listener = log.hasHandlers() or not progress

    def write(record: logging.LogRecord) -> bool:
        file.handle(record)
        if progress:
            print(record.getMessage())
        return has_listener and record.levelno >= caller_level

    file.setLevel(logging.CRITICAL + 1)  # for `log_to_file`: `write` has all other lines
    log.addHandler(file)
    log.addFilter(write)
    log.setLevel(min(caller_level, logging.INFO))
    try:
        yield
    finally:
        log.removeFilter(write)
        log.removeHandler(file)
        log.setLevel(level)
        file.close()


@contextmanager
def _show(claimed: ClaimedRun, progress: bool, live: bool) -> Iterator[None]:
    """Show progress bars in the block if `progress` or `live` is true, and with `live` curves."""
    before = os.environ.get("TQDM_DISABLE")
    if not (progress or live):
        os.environ["TQDM_DISABLE"] = "1"
    command = resume_command(claimed.directory, claimed.settings)
    try:
        with show_live(command) if live else nullcontext():
            yield
    finally:
        if not (progress or live) and before is None:
            del os.environ["TQDM_DISABLE"]
