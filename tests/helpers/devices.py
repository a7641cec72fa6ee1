"""The devices that tests of training are run on, and what makes an engine for one."""

from collections.abc import Callable

import pytest
import torch

from cnnbench.training.engine import EagerEngine

__all__ = ["EACH_DEVICE", "MakeEngine"]

MakeEngine = Callable[..., EagerEngine]

CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    ],
)

EACH_DEVICE = pytest.mark.parametrize("device", ["cpu", CUDA], indirect=True)
