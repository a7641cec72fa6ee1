"""The losses: logits (N, K) and labels (N) to the mean loss of the batch."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from cnnbench.config import TrainConfig

__all__ = ["Loss", "l1_penalty", "make_loss"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_loss(config: TrainConfig) -> Loss:
    """The loss that train.loss names."""

    def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)

    return {"cross_entropy": cross_entropy, "nll": _nll, "mse": _mse}[config.loss]


def _nll(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log-softmax, then the negative log-likelihood: cross-entropy in two steps."""
    return functional.nll_loss(functional.log_softmax(logits, dim=1), labels)


def _mse(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean square difference between softmax and one-hot labels, over all N * K numbers."""
    one_hot = functional.one_hot(labels, logits.shape[1])
    return functional.mse_loss(logits.softmax(dim=1), one_hot.to(logits.dtype))


def l1_penalty(model: nn.Module) -> torch.Tensor:
    """The sum of the absolute values of all weights; biases and normalisation, which have one dimension, are free."""
    return torch.stack([p.abs().sum() for p in model.parameters() if p.ndim > 1]).sum()
