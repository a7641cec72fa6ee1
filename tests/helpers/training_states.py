"""The state of a run that is trained, validated and tested on the same examples, and its rows."""

from collections.abc import Callable, Iterator

import numpy as np

from cnnbench.config import Config
from cnnbench.data.catalog import get
from cnnbench.data.device_data import Examples, ResidentData
from cnnbench.data.splits import Split
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.signals import SignalGuard
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import Row, TrainingState

__all__ = ["MEASURED_COLUMNS", "StartTraining", "collect_rows", "drop_measured", "make_state"]

MEASURED_COLUMNS = ("epoch_s", "examples_per_s", "peak_gib")  # they differ from run to run

StartTraining = Callable[[], tuple[EagerEngine, Iterator[Row]]]


def make_state(
    config: Config, engine: EagerEngine, examples: Examples, run: RunDirectory
) -> TrainingState:
    """Return the state before the first step; only the configuration adds a validation set."""
    has_validation = config.data.validation > 0 or config.data.folds is not None
    no_examples = Examples(examples.images[:0], examples.labels[:0])
    no_indices = np.arange(0)
    data = ResidentData(
        train=examples,
        validation=examples if has_validation else no_examples,
        test=examples,
        split=Split(no_indices, no_indices, no_indices),
    )
    dataset, watch = get("sample"), Stopwatch(0.0)
    return TrainingState(config, engine, dataset, data, watch, SignalGuard(), run)


def collect_rows(start: StartTraining) -> list[Row]:
    """Train to the end; return the row of each epoch."""
    _, rows = start()
    return list(rows)


def drop_measured(rows: list[Row]) -> list[Row]:
    """Return the rows without the columns that differ from run to run."""
    return [
        {key: value for key, value in row.items() if key not in MEASURED_COLUMNS} for row in rows
    ]
