"""The user's optimizers compared with PyTorch's on a few steps, and their known mistakes."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, Optimizer

from cnnbench.reference.custom.differences import explain_difference
from cnnbench.reference.custom.module import CustomModule
from cnnbench.reference.custom.optimizers import CustomOptimizer

__all__ = ["STEPS", "TOLERANCE", "compare_optimizer"]

STEPS = 3
SHAPES = (3, 2), (4,)  # of the weights
TOLERANCE = 1e-4  # The book adds 1e-7 before the bias correction of Adam: a difference of 1e-5.

LR, MOMENTUM, BETA1, BETA2 = 0.1, 0.9, 0.9, 0.999
SETTINGS: dict[str, tuple[float, ...]] = {
    "SGD": (LR,),
    "Momentum": (LR, MOMENTUM),
    "AdaGrad": (LR, 1e-10),
    "Adam": (LR, BETA1, BETA2, 1e-8),
}

Weights = list[nn.Parameter]
# the direction of step t, from the gradients of steps 1 to t: (t, D) -> (D)
Rule = Callable[[torch.Tensor], torch.Tensor]


def compare_optimizer(custom: CustomModule, kind: str) -> tuple[float, str | None]:
    """Run a few steps of the user's optimizer and of PyTorch's on the same float64 gradients.

    Returns:
        The largest difference of a weight, as a share of its largest change, and the mistake that
        it looks like, or None if it is within TOLERANCE.

    Raises:
        CustomCodeError: the user's class fails.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        initial = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
        gradients = [[torch.randn_like(weight) for weight in initial] for _ in range(STEPS)]
    changes = []
    for make in (
        partial(CustomOptimizer, custom=custom, kind=kind, settings=SETTINGS[kind]),
        _MAKE[kind],
    ):
        weights = [nn.Parameter(weight.clone()) for weight in initial]
        optimizer = make(weights)
        for step in gradients:
            for weight, gradient in zip(weights, step, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
        moved = [(weight - first).detach() for weight, first in zip(weights, initial, strict=True)]
        changes.append(_flatten(moved))
    found, right = changes
    difference = _differ(found, right)
    if difference <= TOLERANCE:
        return difference, None
    history = torch.stack([_flatten(step) for step in gradients])  # (STEPS, D)
    for sentence, rule in _MISTAKES[kind]:
        steps = [rule(history[: t + 1]) for t in range(STEPS)]
        if _differ(found, -LR * torch.stack(steps).sum(0)) <= TOLERANCE:
            return difference, f"{kind}.update: {sentence}."
    reason = explain_difference(found, right)
    return difference, f"{kind}.update, change of the weights: {reason}."


def _flatten(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _differ(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).abs().max() / right.abs().max())


def _average(history: torch.Tensor, beta: float) -> torch.Tensor:
    """Return m after the steps of `history`, by m <- beta m + (1 - beta) g from 0."""
    average = torch.zeros_like(history[0])
    for gradient in history:
        average = beta * average + (1 - beta) * gradient
    return average


def _follow_adam(
    history: torch.Tensor, *, corrects_mean: bool, corrects_square: bool
) -> torch.Tensor:
    mean, square = _average(history, BETA1), _average(history**2, BETA2)
    mean = mean / (1 - BETA1 ** len(history)) if corrects_mean else mean
    square = square / (1 - BETA2 ** len(history)) if corrects_square else square
    return mean / square.sqrt()


_MAKE: dict[str, Callable[[Weights], Optimizer]] = {
    "SGD": lambda weights: SGD(weights, LR),
    "Momentum": lambda weights: SGD(weights, LR, momentum=MOMENTUM),
    "AdaGrad": lambda weights: Adagrad(weights, LR),
    "Adam": lambda weights: Adam(weights, LR),
}

_MISTAKES: dict[str, list[tuple[str, Rule]]] = {
    "SGD": [],
    "Momentum": [
        ("the velocity is not kept from step to step", lambda history: history[-1]),
        (
            "the gradient is multiplied by 1 - momentum: it counts in full",
            lambda history: _average(history, MOMENTUM),
        ),
    ],
    "AdaGrad": [
        ("the root of h is missing", lambda history: history[-1] / (history**2).sum(0)),
        ("h is not kept from step to step", lambda history: history[-1].sign()),
    ],
    "Adam": [
        (
            "the bias correction is missing: divide m by 1 - beta1^t and v by 1 - beta2^t",
            partial(_follow_adam, corrects_mean=False, corrects_square=False),
        ),
        (
            "v is not corrected: divide it by 1 - beta2^t",
            partial(_follow_adam, corrects_mean=True, corrects_square=False),
        ),
        (
            "m is not corrected: divide it by 1 - beta1^t",
            partial(_follow_adam, corrects_mean=False, corrects_square=True),
        ),
        ("m and v are not kept from step to step", lambda history: history[-1].sign()),
    ],
}
