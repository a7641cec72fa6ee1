"""What a job leaves behind in its process, where another may follow."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["cleaned_up"]


@contextmanager
def cleaned_up() -> Iterator[None]:
    """At the end of the block, let go of what was compiled and captured, and of memory the GPU keeps for later.

    What the block does to settings need not be undone: `device.setup_device` sets them all. On a CPU without a compiler
    nothing is left that reference counting does not free; to look for more would take 0.1 s.
    """
    try:
        yield
    finally:
        on_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # so in torch
        compiler = sys.modules.get("torch._dynamo")
        if compiler is not None:
            compiler.reset()
        if on_cuda or compiler is not None:
            gc.collect()  # graphs and compiled functions are in cycles
        if on_cuda:
            torch.cuda.empty_cache()
