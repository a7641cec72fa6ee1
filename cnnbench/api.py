"""What the commands do, from Python and in this process: train, load, evaluate and predict.

import cnnbench

result = cnnbench.api.train("model=lenet_relu", "data=sample", "train.epochs=3")
print(result.value, cnnbench.api.evaluate(result.directory).accuracy)
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# before PyTorch is imported: it sets how threads wait
from cnnbench.cli.claimed_run import claim_run
from cnnbench.cli.hydra_app import compose_config, conf_folder, write_hydra_files

# isort: split
from cnnbench.analysis.metrics import Evaluation
from cnnbench.commands.evaluate import evaluate_model
from cnnbench.commands.predict import classify_files
from cnnbench.errors import ConfigError
from cnnbench.reports.predictions import Prediction
from cnnbench.runs.torchrun_env import processes
from cnnbench.sweeps.slurm import end_or_restart
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
    "load",
    "predict",
    "train",
]


@dataclass(frozen=True)
class Result:
    """How a run ended.

    `rows` are those of metrics.csv, accuracies in [0, 1]. `best` is the row that was chosen on the validation set,
    None with data.validation=0. `value` is what runs are compared by: the best validation accuracy or, with
    data.validation=0, the last test accuracy. `test_accuracy`, of the chosen weights, is None if `stopped` is
    true: `on_epoch` ended the run, and the test set was not measured at the end.
    """

    directory: Path
    rows: list[Row]
    best: Row | None
    value: float
    test_accuracy: float | None

    @property
    def stopped(self) -> bool:
        return self.test_accuracy is None

    def __repr__(self) -> str:
        place, epochs = os.path.relpath(self.directory), len(self.rows)
        test = "None" if self.test_accuracy is None else f"{self.test_accuracy:.4f}"
        return f"Result({place!r}, epochs={epochs}, value={self.value:.4f}, test_accuracy={test})"


def load(run: str | Path, *overrides: str, allow_custom_model: bool = False) -> TrainedModel:
    """Load the trained network of a run directory.

    If the run had a validation set, the weights of its best epoch are used; otherwise the last
    weights. `overrides` are those that `cnnbench evaluate` takes, such as "device=cpu". The
    directory may be untrusted: a network that is not cnnbench's is imported with
    `allow_custom_model` alone. Threads and precision are the whole process's, and are set as the
    configuration says.

    Raises:
        ConfigError: it holds no such run or is not trusted so far, or an override is wrong.
        CheckpointError: it has no checkpoint, or a damaged or refused one.
    """
    return load_trained_model(Path(run), overrides, conf_folder(), "load", allow_custom_model)


def evaluate(
    run: str | Path, *overrides: str, match_by_order: bool = False, allow_custom_model: bool = False
) -> Evaluation:
    """Measure the network of a run as `cnnbench evaluate RUN OVERRIDE...` does, and write no files.

    That is on the run's own test set or, with overrides such as "data=mnist", on other images.
    `match_by_order` compares classes of other names in their order. See `load` for untrusted runs.

    Raises:
        ConfigError: as `load`, or the network was taught other classes.
        CheckpointError: as `load`.
        DataError: the data cannot be found or fetched, or are damaged.
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
    """Classify image files as `cnnbench predict RUN IMAGE...` does.

    `images` are files, folders of them, or IDX files, plain or gzipped. Each prediction has the
    name of the `image` and the `topk` most probable `classes` with their probabilities, or an
    `error` if the image could not be classified. `overrides` are such as "device=cpu". See `load`
    for untrusted runs, and for a network that classifies arrays.

    Raises:
        ConfigError: as `load`, or `topk` is less than 1.
        CheckpointError: as `load`.
    """
    if topk < 1:
        raise ConfigError(f"topk={topk} is out of range. It must be at least 1.")
    # the data are not read, so it does not matter whose folder they are in
    trained = load(run, *overrides, "data.root=null", allow_custom_model=allow_custom_model)
    paths = [images] if isinstance(images, (str, Path)) else images
    return list(classify_files(trained, [Path(path) for path in paths], topk))


def train(
    *overrides: str,
    on_epoch: OnEpoch | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
) -> Result:
    """Train as `cnnbench OVERRIDE...` would, with the same numbers and the same files.

    `on_epoch` is called after each epoch, once it is recorded, with its row of metrics.csv. If it returns False the
    run ends there: saved, its status "interrupted", to be gone on with by `cnnbench resume`. An exception of its
    own is passed on, and the run's status is "failed". `directory` is that of the run, in place of the one under
    outputs/: a new folder or an empty one. `progress` prints what the command line prints, with a
    bar on a terminal.

    Seeds, threads and precision are the whole process's, so there is one run in it at a time, in any thread; they
    stay as the run has set them. What the run says goes to train.log and, by the logger "cnnbench", wherever the
    caller has it go.

    Raises:
        CnnbenchError: as the command line would report it; ConfigError also if another run is under way.
        KeyboardInterrupt, SystemExit: a signal, such as SIGINT or SIGTERM; what was done is saved.
        OSError: the run directory cannot be written to.
    """
    started = time.perf_counter()
    if processes().several:
        raise ConfigError(
            "cnnbench.api trains in one process. Several train together by torchrun -m cnnbench OVERRIDE..."
        )
    with _the_only_one():
        composed = compose_config(overrides)
        claimed = claim_run(composed, None if directory is None else Path(directory))
        run = claimed.run
        assert run is not None  # torchrun, which may start it again, is refused
        history: TrainingHistory
        test_accuracy = None
        try:
            with _logging_to(run.path / "train.log", progress), _bars_if(progress):
                write_hydra_files(composed, run.path)
                history = result = training.train(
                    claimed.settings,
                    run,
                    on_epoch=on_epoch,
                    checked=claimed.checked,
                    started=started,
                )
                test_accuracy = result.test.accuracy
        except StoppedByOnEpoch as stopped:
            history = stopped.history
        except (KeyboardInterrupt, SystemExit) as ending:
            end_or_restart(ending)
            raise
        finally:
            run.release()
    return Result(run.path.absolute(), history.rows, history.best, history.value, test_accuracy)


_under_way = threading.Lock()


@contextmanager
def _the_only_one() -> Iterator[None]:
    if not _under_way.acquire(blocking=False):
        raise ConfigError(
            "A run is under way in this process, and seeds and threads are the whole process's: only one can be. "
            "Start several processes instead (with Optuna those that share a storage, not n_jobs)."
        )
    try:
        yield
    finally:
        _under_way.release()


@contextmanager
def _logging_to(path: Path, progress: bool) -> Iterator[None]:
    """Write all that the run says to `path` and, for `progress`, to stdout.

    What the caller's logging would have passed on is passed on.
    """
    log = logging.getLogger("cnnbench")
    level, passed_on = log.level, log.getEffectiveLevel()
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # without a handler Python prints warnings on stderr: these are printed already
    is_passed_on = log.hasHandlers() or not progress

    def keep(record: logging.LogRecord) -> bool:
        file.handle(record)
        if progress:
            print(record.getMessage())
        return is_passed_on and record.levelno >= passed_on

    log.addFilter(keep)
    log.setLevel(min(passed_on, logging.INFO))
    try:
        yield
    finally:
        log.removeFilter(keep)
        log.setLevel(level)
        file.close()


@contextmanager
def _bars_if(progress: bool) -> Iterator[None]:
    """Show no progress bar in the block, unless `progress` asks for it."""
    before = os.environ.get("TQDM_DISABLE")
    if not progress:
        os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if not progress and before is None:
            del os.environ["TQDM_DISABLE"]
