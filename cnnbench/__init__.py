"""cnnbench: train, measure and compare the classic convolutional networks.

`cnnbench.api` trains, loads, evaluates and predicts from Python.
"""

import importlib
import time
from typing import Any

__version__ = "0.2.0"

STARTED = time.perf_counter()  # the wall time of a run counts from here


def __getattr__(name: str) -> Any:
    """Import the modules for Python programs when they are first used: PyTorch takes seconds."""
    if name in ("api", "errors", "models"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
