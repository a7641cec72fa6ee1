"""The devices that tests of training run on, and the type of fixtures that make an engine."""

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
