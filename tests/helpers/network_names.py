"""The names of all networks, for tests that build each of them. The largest are marked slow."""

import pytest

from cnnbench import models

__all__ = ["EVERY_NETWORK", "LARGE"]

# each has a smaller network of the same family
LARGE = {
    *("vgg16", "vgg19", "resnet101", "resnet152", "preact_resnet1001", "wide_resnet28_10"),
    *("densenet169", "densenet201", "densenet264", "densenet_bc190", "densenet_bc250"),
}

EVERY_NETWORK = [
    pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in models.names()
]
