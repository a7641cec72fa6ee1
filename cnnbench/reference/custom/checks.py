"""The user's classes compared with PyTorch's on small inputs that show mistakes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from cnnbench.reference.checking import Differences, compare, compare_layer
from cnnbench.reference.custom.layers import find_custom_twin, make_custom_loss
from cnnbench.reference.custom.mistakes import CLASSES, DROPPED, EXAMPLES, PROBES
from cnnbench.reference.custom.module import OPTIMIZERS, CustomModule
from cnnbench.reference.custom.optimizer_mistakes import STEPS, compare_optimizer

__all__ = ["Check", "WeightDifference", "list_checks"]


@dataclass(frozen=True)
class WeightDifference:
    """The largest difference of a weight after some steps, as a share of its largest change."""

    outputs: float


# the inputs in words, and the function that compares
Check = tuple[str, Callable[[], Differences | WeightDifference]]


def list_checks(custom: CustomModule, kind: str) -> list[Check]:
    """Return the comparisons of a user's class with PyTorch's. They raise CustomCodeError."""
    if kind in OPTIMIZERS:
        return [
            (f"{STEPS} steps", lambda: WeightDifference(compare_optimizer(custom, kind)[0])),
        ]
    if kind == "CrossEntropyLoss":
        return [(f"{EXAMPLES} examples, {CLASSES} classes", partial(_compare_loss, custom))]
    if kind == "Dropout":
        return [(PROBES[kind][0].title, partial(_compare_dropout, custom))]
    cpu = torch.device("cpu")
    return [
        (probe.title, partial(compare_layer, probe.layer, probe.shape, cpu, custom))
        for probe in PROBES[kind]
    ]


def _compare_loss(custom: CustomModule) -> Differences:
    labels = torch.arange(EXAMPLES)
    loss = make_custom_loss(custom)
    logits = torch.randn(EXAMPLES, CLASSES, dtype=torch.float64)
    return compare(lambda x: loss(x, labels), lambda x: functional.cross_entropy(x, labels), logits)


def _compare_dropout(custom: CustomModule) -> Differences:
    """Compare with PyTorch's operations on the mask that the user's class draws."""
    (probe,) = PROBES["Dropout"]
    twin_class: Any = find_custom_twin(probe.layer, custom)
    twin = twin_class(DROPPED)

    def with_its_mask(inputs: torch.Tensor) -> torch.Tensor:
        mask: torch.Tensor = twin(inputs.detach()) != 0
        return inputs * mask / (1 - DROPPED)

    return compare(twin, with_its_mask, torch.randn(*probe.shape, dtype=torch.float64))
