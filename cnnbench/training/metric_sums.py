"""Metrics of training and evaluation, summed on the device.

Reading a sum makes the host wait for the device, so the training loop reads them rarely.
"""

import math
from dataclasses import dataclass

import torch

__all__ = ["MetricSums", "Metrics"]


@dataclass(frozen=True)
class Metrics:
    """The mean loss and the accuracy, in [0, 1], over some examples.

    `num_nonfinite` counts the examples with a non-finite loss. The mean loss excludes them.
    """

    loss: float
    accuracy: float
    num_nonfinite: int = 0


class MetricSums:
    """Sums over examples on the device: `update` never waits for the device, `compute` does.

    With `skip_nonfinite` the mean loss excludes batches with a non-finite loss.
    """

    def __init__(self, device: torch.device, skip_nonfinite: bool = False) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(3, dtype=dtype, device=device)  # loss, correct, num_nonfinite
        self.examples = 0
        self.skip_nonfinite = skip_nonfinite

    def reset(self) -> None:
        self.sums.zero_()
        self.examples = 0

    def update(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch: its mean `loss`, `logits` (N, K), `labels` (N)."""
        correct = (logits.argmax(dim=1) == labels).sum()
        loss, num_nonfinite = loss.detach(), torch.zeros_like(correct)
        if self.skip_nonfinite:
            num_nonfinite = ~loss.isfinite()
            loss = loss.masked_fill(num_nonfinite, 0.0)
        self.sums += torch.stack([loss * len(labels), correct, num_nonfinite * len(labels)])
        self.examples += len(labels)

    def total(self) -> torch.Tensor:
        """Return the sums of losses, correct and non-finite examples: float64 (3)."""
        return self.sums

    def compute(self) -> Metrics:
        """Return the metrics of all examples since the last reset. Waits for the device."""
        loss, correct, num_nonfinite = self.total().tolist()
        counted = self.examples - num_nonfinite
        mean_loss = loss / counted if counted else math.nan
        return Metrics(mean_loss, correct / self.examples, round(num_nonfinite))
