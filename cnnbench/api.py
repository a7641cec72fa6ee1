"""Training from Python: what `cnnbench OVERRIDE...` does, in this process, for programs such as a search.

from cnnbench.api import train

result = train("model=lenet_relu", "data=sample", "train.epochs=3")
print(result.value, result.directory)
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cnnbench.cli.hydra_app import claim_run, compose_config, write_hydra_files
from cnnbench.errors import ConfigError
from cnnbench.runs.processes import processes
from cnnbench.runs.slurm import end_or_restart
from cnnbench.training import run as training
from cnnbench.training.run import OnEpoch, StoppedByOnEpoch
from cnnbench.training.state import Row, TrainingHistory

__all__ = ["Result", "Row", "train"]


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


def train(*overrides: str, on_epoch: OnEpoch | None = None, directory: Path | None = None) -> Result:
    """Train as `cnnbench OVERRIDE...` would, with the same numbers and the same files.

    `on_epoch` is called after each epoch, once it is recorded, with its row of metrics.csv. If it returns False the
    run ends there: saved, its status "interrupted", to be gone on with by `cnnbench resume`. An exception of its
    own is passed on, and the run's status is "failed". `directory` is that of the run, in place of the one under
    outputs/.

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
        claimed = claim_run(composed, directory)
        run = claimed.run
        assert run is not None  # torchrun, which may start it again, is refused
        history: TrainingHistory
        test_accuracy = None
        try:
            with _kept_in(run.path / "train.log"):
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
def _kept_in(path: Path) -> Iterator[None]:
    """Write all that the run says to `path`, and pass on what the caller's logging would have passed on."""
    log = logging.getLogger("cnnbench")
    level, passed_on = log.level, log.getEffectiveLevel()
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def keep(record: logging.LogRecord) -> bool:
        file.handle(record)
        return record.levelno >= passed_on

    log.addFilter(keep)
    log.setLevel(min(passed_on, logging.INFO))
    try:
        yield
    finally:
        log.removeFilter(keep)
        log.setLevel(level)
        file.close()
