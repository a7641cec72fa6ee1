"""The state of a run that is trained, validated and tested on the same examples."""

import numpy as np

from cnnbench.config import Config
from cnnbench.data.catalog import get
from cnnbench.data.device_data import Examples, ResidentData
from cnnbench.data.splits import Split
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.signals import SignalGuard
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import TrainingState

__all__ = ["make_state"]


def make_state(
    config: Config, engine: EagerEngine, examples: Examples, run: RunDirectory
) -> TrainingState:
    """Return the state before the first step; the validation set is as the configuration asks."""
    nothing = np.arange(0)
    validates = config.data.validation > 0 or config.data.folds is not None
    none = Examples(examples.images[:0], examples.labels[:0])
    data = ResidentData(
        train=examples,
        validation=examples if validates else none,
        test=examples,
        split=Split(nothing, nothing, nothing),
    )
    dataset, watch = get("sample"), Stopwatch(0.0)
    return TrainingState(config, engine, dataset, data, watch, SignalGuard(), run)
