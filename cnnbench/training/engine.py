"""Step engines: how batches are trained on and how a data set is evaluated.

Metrics are summed on the device; reading them is what makes the host wait, so the loop does it when
something is to be shown.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cnnbench.config import Config
from cnnbench.data.augment import Augment
from cnnbench.data.device_data import Examples
from cnnbench.data.preprocess import Preprocess
from cnnbench.errors import ConfigError, is_out_of_memory
from cnnbench.runs.signals import SignalGuard
from cnnbench.training.device import Device
from cnnbench.training.ema import WeightEma
from cnnbench.training.losses import make_losses
from cnnbench.training.optimizers import set_lr

__all__ = ["EagerEngine", "MetricSums", "Metrics", "StepFn", "copy_to_cpu", "endless_steps"]

log = logging.getLogger("cnnbench")

StepFn = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]

AUXILIARY_WEIGHT = 0.3  # of the loss of an auxiliary classifier: Szegedy et al. 2015, section 5


@dataclass(frozen=True)
class Metrics:
    """The mean loss and the accuracy, in [0, 1], over some examples.

    `num_nonfinite` of them, whose loss was not finite, are not in the mean loss.
    """

    loss: float
    accuracy: float
    num_nonfinite: int = 0


class MetricSums:
    """Sums over examples on the device: `update` never waits for it, `compute` does.

    Batches whose loss is not finite are left out of the mean loss if `skip_nonfinite` is true.
    """

    def __init__(self, device: torch.device, skip_nonfinite: bool = False) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(3, dtype=dtype, device=device)  # loss, correct, left out
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
        """Return the sums of the loss, of correct and of non-finite examples: float64 (3)."""
        return self.sums

    def compute(self) -> Metrics:
        loss, correct, num_nonfinite = self.total().tolist()
        counted = self.examples - num_nonfinite
        mean_loss = loss / counted if counted else math.nan
        return Metrics(mean_loss, correct / self.examples, round(num_nonfinite))


class EagerEngine:
    """Runs each operation as it comes, on any device.

    `train_metrics` are those of training since the last reset.
    """

    name = "eager"  # how the steps run: eager or graph
    sums_class = MetricSums

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        preprocess: Preprocess,
        augment: Augment,
        device: Device,
        config: Config,
    ) -> None:
        self.model = model
        self.optimizers = optimizers
        self.preprocess = preprocess
        self.augment = augment
        self.device = device
        self.config = config.train
        self.loss, self.l1_penalty = make_losses(config.train, reference=config.reference.loss)
        decay = config.train.ema_decay
        self.average = None if decay is None else WeightEma(model, decay)
        self.autocast = torch.autocast(
            device.torch_device.type,
            dtype=device.autocast_dtype,
            enabled=device.autocast_dtype is not None,
        )
        self.scales = (
            device.precision == "fp16"
        )  # alone needs its gradients scaled: its smallest number is 6e-8
        self.skips = (
            config.train.on_nonfinite_loss == "skip"
        )  # which is what a scaler does, be it by 1
        self.scaler = torch.amp.GradScaler(
            device.torch_device.type,
            init_scale=2.0**16 if self.scales else 1.0,
            enabled=self.scales or self.skips,
        )
        self.train_metrics = self.sums_class(device.torch_device, skip_nonfinite=self.skips)
        self.eval_metrics = self.sums_class(device.torch_device)
        self.compiled: dict[str, StepFn] = {}
        self.compiled_batch_size = 0

    @property
    def eval_model(self) -> nn.Module:
        """The network that is measured and kept: the one that trains, or its average over time."""
        return self.model if self.average is None else self.average.model

    def tensors(self) -> list[torch.Tensor]:
        """Return the weights and statistics of the network, and of its average."""
        average = {} if self.average is None else self.average.model.state_dict()
        return [*self.model.state_dict().values(), *average.values()]

    def join(self, group: "torch.distributed.ProcessGroup", sync_batchnorm: bool) -> None:
        """Begin to work with the other ranks, who call this too; all have rank 0's weights then."""

    def broadcast_weights(self) -> None:
        """Give all ranks the weights and statistics of rank 0."""

    def state(self) -> dict[str, Any]:
        """Return the metric sums and the generators of random numbers, for a checkpoint."""
        device, metrics = self.device.torch_device, self.train_metrics
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        generators = {"cpu": torch.get_rng_state(), "cuda": cuda}
        return {"sums": metrics.sums, "examples": metrics.examples, "generators": generators}

    def reduce_max(self, flags: Sequence[int]) -> Sequence[int]:
        """Return of each flag the largest on any rank, so that all ranks do the same."""
        return flags

    def interruptible(self, signals: SignalGuard) -> AbstractContextManager[None]:
        """Let a signal end the block at once, an evaluation, and on all ranks."""
        return signals.interruptible()

    def prepare(self, train: Examples, batch_size: int) -> None:
        """Do ahead of training what takes time once; weights and generators stay as they were.

        Raises:
            ConfigError: the network cannot be compiled.
        """
        if not self.device.compile:
            return
        log.info("Compiling the network, which may take minutes ...")
        images, labels = train.take(torch.arange(batch_size, device=self.device.torch_device))
        passes = (self._objective, self._measure)
        try:
            self.compiled = {each.__name__: torch.compile(each, dynamic=False) for each in passes}
            self.compiled_batch_size = batch_size
            with self.preserve_state():
                self.model.train()
                self.train_step(images, labels)
                self.eval_model.eval()
                with torch.inference_mode():
                    self.evaluate_step(images, labels)
        except (RuntimeError, OSError, KeyError) as error:  # the last two: its cache has no place
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise ConfigError(
                f"device.compile=on: PyTorch cannot compile this network here: {reason}. Use device.compile=off."
            ) from error

    def steps(
        self, examples: Examples, order: torch.Tensor, batch_size: int, lr_factors: Sequence[float]
    ) -> Iterator[int]:
        """Train on the examples in the given order; yield after each step how many it took.

        The learning rates of step i are the configured ones times lr_factors[i]. A last batch that is
        smaller moves the weights by its share of a full step. At a full step its noisier gradient would be
        the last thing before each evaluation.
        """
        self.model.train()
        for (images, labels), factor in zip(
            examples.batches(batch_size, order), lr_factors, strict=True
        ):
            set_lr(self.optimizers, factor)
            self.train_step(images, labels, weight=len(labels) / batch_size)
            yield len(labels)

    def train_step(self, images: torch.Tensor, labels: torch.Tensor, weight: float = 1.0) -> None:
        """Update once from uint8 images (N, C, H, W) and labels (N), the gradient times `weight`.

        Their metrics are added to `train_metrics`.
        """
        inputs, targets = self.augment(self.inputs(images), labels)
        statistics = [each.clone() for each in self.model.buffers()] if self.skips else []
        objective, loss, logits = self._run(self._objective, inputs, targets)
        self.train_metrics.update(loss, logits, labels)
        self.scaler.scale(objective * weight).backward()  # type: ignore[no-untyped-call]  # so in torch
        for now, before in zip(self.model.buffers(), statistics, strict=False):
            now.copy_(torch.where(loss.isfinite(), now, before))
        if self.config.grad_clip_norm is not None:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip_norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update(None if self.scales else 1.0)
        if self.average is not None:
            self.average.update()

    @torch.inference_mode()
    def evaluate(self, examples: Examples, batch_size: int) -> Metrics:
        """Return the metrics of all examples, by the network in evaluation mode."""
        self.eval_model.eval()
        self.eval_metrics.reset()
        for images, labels in examples.batches_in_order(batch_size):
            self.evaluate_step(images, labels)
        return self.eval_metrics.compute()

    def evaluate_step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Add the metrics of uint8 images (N, C, H, W) and labels (N) to `eval_metrics`."""
        loss, logits = self._run(self._measure, self.inputs(images), labels)
        self.eval_metrics.update(loss, logits, labels)

    @torch.inference_mode()
    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of uint8 images (N, C, H, W), in evaluation mode."""
        self.eval_model.eval()
        return self.logits(self.inputs(images))

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """Return the inputs (N, C, size, size) of the network for uint8 images (N, C, H, W)."""
        return self.preprocess(images).contiguous(memory_format=self.device.memory_format)

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of `eval_model` for inputs (N, C, size, size).

        With train.tta=hflip the mean of both ways round.
        """
        logits, *_ = self._forward(self.eval_model, inputs)
        if self.config.tta == "hflip":
            mirrored, *_ = self._forward(self.eval_model, inputs.flip(-1))
            logits = (logits + mirrored) / 2
        return logits

    @contextmanager
    def preserve_state(self) -> Iterator[None]:
        """Put weights, statistics, optimizers, sums and generators back after trial steps."""
        kept = [*self.tensors(), self.train_metrics.sums, self.eval_metrics.sums]
        # not in memory of the GPU, whose peak is to be that of training
        copies, scaler = copy_to_cpu(kept), self.scaler.state_dict()
        states = [copy_to_cpu(_tensors(optimizer)) for optimizer in self.optimizers]
        examples = self.train_metrics.examples, self.eval_metrics.examples
        try:
            device = self.device.torch_device
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                yield
        finally:
            for tensor, copy in zip(kept, copies, strict=True):
                tensor.copy_(copy)
            for optimizer, state in zip(self.optimizers, states, strict=True):
                optimizer.zero_grad(set_to_none=True)
                for key, value in _tensors(optimizer).items():
                    value.copy_(
                        state[key]
                    ) if key in state else value.zero_()  # all of PyTorch's begin with zeros
            self.scaler.load_state_dict(scaler)
            self.train_metrics.examples, self.eval_metrics.examples = examples

    def _run(
        self, forward: StepFn, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Run `forward`, for full batches as compiled: any other size would be compiled anew."""
        full = len(labels) == self.compiled_batch_size
        return (self.compiled[forward.__name__] if full else forward)(inputs, labels)

    def _objective(self, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the gradient is of, the loss that is reported, and the logits (N, K)."""
        logits, *auxiliary = self._forward(self.model, inputs)
        loss = self.loss(logits, targets)
        objective = loss
        for theirs in auxiliary:
            objective = objective + AUXILIARY_WEIGHT * self.loss(theirs, targets)
        if self.config.l1 > 0:
            objective = objective + self.config.l1 * self.l1_penalty(self.model)
        return objective, loss, logits

    def _measure(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the loss and the logits (N, K) of `eval_model`."""
        logits = self.logits(inputs)
        return self.loss(logits, labels), logits

    def _forward(self, model: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the logits (N, K) in `device.dtype`, then those of auxiliary classifiers."""
        with self.autocast:
            outputs = model(inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(logits.to(self.device.dtype) for logits in outputs)


def copy_to_cpu(value: Any) -> Any:
    """A copy of nested values, with all tensors in host memory."""
    match value:
        case torch.Tensor():
            return value.to("cpu", copy=True)
        case dict():
            return {key: copy_to_cpu(inner) for key, inner in value.items()}
        case list() | tuple():
            return [copy_to_cpu(inner) for inner in value]
    return value


def _tensors(optimizer: Optimizer) -> dict[tuple[torch.Tensor, str], torch.Tensor]:
    """Return all that the optimizer remembers, by parameter and name."""
    return {
        (parameter, name): value
        for parameter, state in optimizer.state.items()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def endless_steps(engine: EagerEngine, train: Examples, batch_size: int) -> Iterator[int]:
    """Take training steps on full batches, epoch after epoch."""
    steps = len(train) // batch_size
    while True:
        order = torch.randperm(len(train))[: steps * batch_size]
        yield from engine.steps(train, order, batch_size, [1.0] * steps)
