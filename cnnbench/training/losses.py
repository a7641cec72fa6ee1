"""Loss functions: the mean loss of a batch from logits (N, K) and targets.

Targets are labels, int64 (N), or probabilities of the classes, float (N, K), for mixed images.
One-hot probabilities, which may also be integers, give the same loss as labels. The loss of each
example can be multiplied by a weight (N); the sum is still divided by N.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from cnnbench.config import TrainConfig
from cnnbench.reference import losses, penalties
from cnnbench.reference.custom.module import CustomModule

__all__ = ["Losses", "make_losses", "weigh"]

Loss = Callable[..., torch.Tensor]  # of logits, targets and, except in the reference, weights


class Losses(NamedTuple):
    """The terms of the objective: `loss` of a batch, and train.l1 times `l1_penalty`."""

    loss: Loss
    l1_penalty: Callable[[nn.Module], torch.Tensor]


def make_losses(
    config: TrainConfig, *, reference: bool = False, custom: CustomModule | None = None
) -> Losses:
    """Return the loss that train.loss names and the L1 penalty, of PyTorch or of the reference.

    If the user's file has a CrossEntropyLoss, the cross-entropy of the reference is this class.
    """
    named: dict[str, Loss]
    if reference:
        cross_entropy: Loss
        cross_entropy = partial(losses.cross_entropy, label_smoothing=config.label_smoothing)
        if custom is not None and "CrossEntropyLoss" in custom.classes:
            # Imported here, so that other runs need not wait for it.
            from cnnbench.reference.custom.layers import make_custom_loss

            cross_entropy = make_custom_loss(custom, config.label_smoothing)
        named = {"cross_entropy": cross_entropy, "nll": losses.nll, "mse": losses.mse}
        return Losses(named[config.loss], penalties.l1_penalty)
    cross_entropy = partial(_cross_entropy, label_smoothing=config.label_smoothing)
    named = {"cross_entropy": cross_entropy, "nll": _nll, "mse": _mse}
    return Losses(named[config.loss], _l1_penalty)


def weigh(targets: torch.Tensor, class_weights: torch.Tensor) -> torch.Tensor:
    """Return the weight (N) of each example: that of its class, or the mean of mixed classes."""
    return class_weights[targets] if targets.ndim == 1 else targets @ class_weights


def _to_labels_or_floats(targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return integer one-hot targets (N, K) as floats, other targets as they are.

    Raises:
        ValueError: if the targets are neither labels (N) nor as many and as wide as the logits.
    """
    losses.check_targets(targets, logits)
    if targets.ndim == 1 or targets.is_floating_point():
        return targets
    return targets.to(logits.dtype)


def _cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    label_smoothing: float,
) -> torch.Tensor:
    """Return the cross-entropy of the softmax, with label smoothing."""
    targets = _to_labels_or_floats(targets, logits)
    loss = partial(functional.cross_entropy, logits, targets, label_smoothing=label_smoothing)
    return _mean(loss, weights)


def _nll(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the negative log-likelihood of the log-softmax: cross-entropy in two steps."""
    targets = _to_labels_or_floats(targets, logits)
    log_probabilities = functional.log_softmax(logits, dim=1)
    if targets.is_floating_point():
        each = -(targets * log_probabilities).sum(dim=1)
        return each.mean() if weights is None else (weights * each).mean()
    return _mean(partial(functional.nll_loss, log_probabilities, targets), weights)


def _mse(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean squared difference of softmax and targets over all N * K numbers.

    Labels count as one-hot probabilities.
    """
    targets = _to_labels_or_floats(targets, logits)
    if not targets.is_floating_point():
        targets = functional.one_hot(targets, logits.shape[1])
    loss = partial(functional.mse_loss, logits.softmax(dim=1), targets.to(logits.dtype))
    return _mean(loss, weights)


def _mean(loss: Loss, weights: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of a loss of PyTorch, with the weight (N) of each example, if given."""
    if weights is None:
        return loss()
    each = loss(reduction="none").view(len(weights), -1).mean(dim=1)
    return (weights * each).mean()


def _l1_penalty(model: nn.Module) -> torch.Tensor:
    """Return the sum of the absolute values of all weights.

    Biases and parameters of normalization, which have one dimension, are not penalized.
    """
    sums = [weight.abs().sum() for weight in model.parameters() if weight.ndim > 1]
    return torch.stack(sums).sum()
