"""Step engines: how one batch is trained on and how a data set is evaluated.

Metrics are summed on the device; reading them is what makes the host wait, so the loop does it when
something is to be shown.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from cnnbench.data.resident import Examples
from cnnbench.data.transforms import Preprocess
from cnnbench.training.device import Device
from cnnbench.training.losses import Loss, l1_penalty

__all__ = ["EagerEngine", "MetricSums", "Metrics"]

AUXILIARY_WEIGHT = 0.3  # of the loss of an auxiliary classifier: Szegedy et al. 2015, section 5


@dataclass(frozen=True)
class Metrics:
    """The mean loss and the accuracy, in [0, 1], over some examples."""

    loss: float
    accuracy: float


class MetricSums:
    """Sums over examples on the device: `update` never waits for it, `compute` does."""

    def __init__(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(2, dtype=dtype, device=device)  # loss, correct
        self.examples = 0

    def reset(self) -> None:
        self.sums.zero_()
        self.examples = 0

    def update(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch: its mean `loss`, `logits` (N, K), `labels` (N)."""
        correct = (logits.argmax(dim=1) == labels).sum()
        self.sums += torch.stack([loss.detach() * len(labels), correct])
        self.examples += len(labels)

    def compute(self) -> Metrics:
        loss, correct = self.sums.tolist()
        return Metrics(loss / self.examples, correct / self.examples)


class EagerEngine:
    """Runs each operation as it comes, on any device."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: Optimizer,
        preprocess: Preprocess,
        device: Device,
        *,
        l1: float = 0.0,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.preprocess = preprocess
        self.device = device
        self.l1 = l1
        self.memory_format = device.memory_format
        self.autocast = torch.autocast(
            device.kind.type, dtype=device.autocast_dtype, enabled=device.autocast_dtype is not None
        )
        # fp16 alone needs its gradients scaled: its smallest number is 6e-8
        self.scaler = torch.amp.GradScaler(device.kind.type, enabled=device.precision == "fp16")
        self.sums = MetricSums(device.kind)

    def train_step(self, images: torch.Tensor, labels: torch.Tensor, weight: float = 1.0) -> None:
        """One update from uint8 images (N, C, H, W) and labels (N), its gradient times `weight`; adds to `sums`."""
        logits, *auxiliary = self._forward(images)
        loss = self.loss(logits, labels)
        self.sums.update(loss, logits, labels)
        objective = loss
        for theirs in auxiliary:
            objective = objective + AUXILIARY_WEIGHT * self.loss(theirs, labels)
        if self.l1 > 0:
            objective = objective + self.l1 * l1_penalty(self.model)
        # torch leaves backward without types
        self.scaler.scale(objective * weight).backward()  # type: ignore[no-untyped-call]  # so in torch
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def evaluate(self, examples: Examples, batch_size: int) -> Metrics:
        """The metrics of all examples, by the model as it is in evaluation mode."""
        self.model.eval()
        sums = MetricSums(examples.labels.device)
        for images, labels in examples.batches_in_order(batch_size):
            logits, *_ = self._forward(images)
            sums.update(self.loss(logits, labels), logits, labels)
        return sums.compute()

    def _forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The logits (N, K) in float32, and after them those of auxiliary classifiers, if the network has any."""
        inputs = self.preprocess(images).contiguous(memory_format=self.memory_format)
        with self.autocast:
            outputs = self.model(inputs)
        return tuple(logits.float() for logits in (outputs if isinstance(outputs, tuple) else (outputs,)))
