"""cnnbench: train, measure and compare the classic convolutional networks.

`cnnbench.api` trains, loads, evaluates and predicts from Python.
"""

import importlib
import time
from typing import Any

__version__ = "0.2.0"

STARTED = time.perf_counter()  # when the wall time of a run begins


def __getattr__(name: str) -> Any:
    """Import api, errors or models when it is first used: importing PyTorch takes seconds."""
    if name in ("api", "errors", "models"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
