"""The state of a run whose training, validation and test set are the same examples."""

import numpy as np

from cnnbench.config import Config
from cnnbench.data.catalog import get
from cnnbench.data.device_data import Examples, ResidentData
from cnnbench.data.splits import Split
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.signals import Stopping
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import TrainingState

__all__ = ["make_state"]


def make_state(
    config: Config, engine: EagerEngine, examples: Examples, run: RunDirectory
) -> TrainingState:
    """Return the state before the first step.

    There is a validation set if the configuration asks for one.
    """
    no_indices = np.arange(0)
    has_validation = config.data.validation > 0 or config.data.folds is not None
    no_examples = Examples(examples.images[:0], examples.labels[:0])
    data = ResidentData(
        train=examples,
        validation=examples if has_validation else no_examples,
        test=examples,
        split=Split(no_indices, no_indices, no_indices),
    )
    dataset, watch = get("sample"), Stopwatch(0.0)
    return TrainingState(config, engine, dataset, data, watch, Stopping(), run)
