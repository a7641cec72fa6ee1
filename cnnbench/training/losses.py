"""The losses: logits (N, K) and targets to the mean loss of the batch.

The targets are labels, int64 (N), or the probabilities of the classes, float (N, K), as mixed images have them.
One-hot probabilities are the same as labels.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from cnnbench.config import TrainConfig

__all__ = ["Losses", "make_losses"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Losses(NamedTuple):
    """What training makes small: `loss` of a batch, and `l1_penalty` of the network, times train.l1."""

    loss: Loss
    l1_penalty: Callable[[nn.Module], torch.Tensor]


def make_losses(config: TrainConfig, *, reference: bool = False) -> Losses:
    """Return the loss that train.loss names, and the penalty: PyTorch's, or the reference."""
    smoothed = partial(functional.cross_entropy, label_smoothing=config.label_smoothing)
    named: dict[str, Loss] = {"cross_entropy": smoothed, "nll": _nll, "mse": _mse}
    if reference:
        from cnnbench.reference import (
            losses,
            penalties,
        )  # other runs need not wait for their import

        smoothed = partial(losses.cross_entropy, label_smoothing=config.label_smoothing)
        named = {"cross_entropy": smoothed, "nll": losses.nll, "mse": losses.mse}
        return Losses(named[config.loss], penalties.l1_penalty)
    return Losses(named[config.loss], _l1_penalty)


def _nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-softmax, then the negative log-likelihood: cross-entropy in two steps."""
    log_probabilities = functional.log_softmax(logits, dim=1)
    if targets.is_floating_point():
        return -(targets * log_probabilities).sum(dim=1).mean()
    return functional.nll_loss(log_probabilities, targets)


def _mse(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean square difference between softmax and targets, one-hot if labels, over all N * K numbers."""
    if not targets.is_floating_point():
        targets = functional.one_hot(targets, logits.shape[1])
    return functional.mse_loss(logits.softmax(dim=1), targets.to(logits.dtype))


def _l1_penalty(model: nn.Module) -> torch.Tensor:
    """The sum of the absolute values of all weights; biases and normalisation, which have one dimension, are free."""
    return torch.stack([p.abs().sum() for p in model.parameters() if p.ndim > 1]).sum()
