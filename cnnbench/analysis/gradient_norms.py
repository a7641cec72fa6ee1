"""The norms of the gradients of the loss by the weights, which show where gradients vanish."""

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["measure_gradient_norms"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # from inputs and labels

BATCH = 8  # images at a time, since the activations of all of them are kept


def measure_gradient_norms(
    network: nn.Module, loss: Loss, inputs: torch.Tensor, labels: torch.Tensor
) -> dict[str, float]:
    """Return the Euclidean norm of the gradient of the loss by each weight tensor, by its name.

    `loss` runs the network on inputs (N, C, S, S) and returns the mean loss for labels (N). Biases
    and parameters of normalization are left out, and weights that the loss does not depend on. The
    weights and their `grad` stay as they are.
    """
    named = {name: weight for name, weight in network.named_parameters() if weight.ndim > 1}
    needed_gradients = {name: weight.requires_grad for name, weight in named.items()}
    sums: dict[str, torch.Tensor] = {}
    try:
        for weight in named.values():
            weight.requires_grad_()  # an average of weights does not have it
        for start in range(0, len(labels) if named else 0, BATCH):
            targets = labels[start : start + BATCH]
            share = loss(inputs[start : start + BATCH], targets) * (len(targets) / len(labels))
            gradients = torch.autograd.grad(share, [*named.values()], allow_unused=True)
            for name, gradient in zip(named, gradients, strict=True):
                if gradient is not None:
                    sums[name] = sums[name] + gradient if name in sums else gradient
    finally:
        for name, weight in named.items():
            weight.requires_grad_(needed_gradients[name])
    return {name: total.double().norm().item() for name, total in sums.items()}
