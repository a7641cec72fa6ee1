"""The cost of a step of the reference optimizers: operations and state per weight."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.random_tensors import random_tensor
from torch import nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.reference.optimizers import SGD, AdaGrad, Adam, Momentum

Make = Callable[..., Optimizer]

OPERATIONS = {
    "mul": "multiplications",
    "add": "additions",
    "sub": "additions",
    "div": "divisions",
    "sqrt": "square roots",
}


class OperationCounter(TorchDispatchMode):
    """A counter of elementwise operations: those whose outputs have a given shape."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if isinstance(outputs, torch.Tensor) and outputs.shape == self.shape:
            self.counts[OPERATIONS[func.overloadpacket.__name__.rstrip("_")]] += 1
        return outputs


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("kind", "state_size", "expected"),
    [
        (SGD, 0, {"multiplications": 1, "additions": 1}),
        (Momentum, 1, {"multiplications": 2, "additions": 2}),
        (AdaGrad, 1, {"multiplications": 2, "additions": 3, "divisions": 1, "square roots": 1}),
        (Adam, 2, {"multiplications": 6, "additions": 4, "divisions": 3, "square roots": 1}),
    ],
    ids=["SGD", "Momentum", "AdaGrad", "Adam"],
)
def test_step_has_documented_cost(
    kind: Make, state_size: int, expected: dict[str, int], weight_decay: float
) -> None:
    weights = nn.Parameter(random_tensor(3, 2).detach())
    weights.grad = torch.ones_like(weights)
    optimizer = kind([weights], lr=0.1, weight_decay=weight_decay)
    with OperationCounter(weights.shape) as counter:
        optimizer.step()
    if weight_decay > 0:
        expected = Counter(expected) + Counter({"multiplications": 1, "additions": 1})
    assert counter.counts == Counter(expected)
    state = optimizer.state[weights].values()
    assert sum(value.shape == weights.shape for value in state) == state_size
