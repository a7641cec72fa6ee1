"""The step engine: train on batches, and evaluate data sets.

Metrics are summed on the device. Reading a sum makes the host wait, so the loop reads them rarely.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from cnnbench.training.losses import make_losses, weigh
from cnnbench.training.metric_sums import Metrics, MetricSums
from cnnbench.training.optimizers import set_lr

__all__ = ["EagerEngine", "StepFn", "copy_to_cpu", "endless_steps"]

log = logging.getLogger("cnnbench")

StepFn = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]

AUXILIARY_WEIGHT = 0.3  # weight of an auxiliary classifier's loss: Szegedy et al. 2015, section 5


class EagerEngine:
    """Runs each operation when Python reaches it, on any device.

    `train_metrics` sums over the training steps since its last reset.
    """

    name = "eager"  # "eager" or "graph", as run directories record it
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
        # Only fp16 needs scaled gradients: its smallest number is 6e-8.
        self.scales_gradients = device.precision == "fp16"
        # A gradient scaler skips steps with non-finite gradients, also at a scale of 1.
        self.skips_nonfinite = config.train.on_nonfinite_loss == "skip"
        self.scaler = torch.amp.GradScaler(
            device.torch_device.type,
            init_scale=2.0**16 if self.scales_gradients else 1.0,
            enabled=self.scales_gradients or self.skips_nonfinite,
        )
        self.train_metrics = self.sums_class(device.torch_device, self.skips_nonfinite)
        self.eval_metrics = self.sums_class(device.torch_device)
        self.class_weights: torch.Tensor | None = None  # (K), None: all classes weigh 1
        self.compiled: dict[str, StepFn] = {}
        self.compiled_sizes: dict[str, int] = {}  # the number of examples each is compiled for

    @property
    def eval_model(self) -> nn.Module:
        """The network to evaluate and save: with train.ema_decay the average of the weights."""
        return self.model if self.average is None else self.average.model

    def tensors(self) -> list[torch.Tensor]:
        """Return the weights and statistics of the network and of its average."""
        average = {} if self.average is None else self.average.model.state_dict()
        return [*self.model.state_dict().values(), *average.values()]

    def join(self, group: "torch.distributed.ProcessGroup", sync_batchnorm: bool) -> None:
        """Begin to train with the other ranks, and take the weights of rank 0.

        Every rank must call this. `group` holds the same ranks, for tensors in host memory.
        """

    def broadcast_weights(self) -> None:
        """Send the weights and statistics of rank 0 to all ranks."""

    def state(self) -> dict[str, Any]:
        """Return the metric sums and the states of the random generators, for a checkpoint."""
        device, metrics = self.device.torch_device, self.train_metrics
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        generators = {"cpu": torch.get_rng_state(), "cuda": cuda}
        return {"sums": metrics.sums, "examples": metrics.examples, "generators": generators}

    def reduce_max(self, flags: Sequence[int]) -> Sequence[int]:
        """Return the maximum of each flag over all ranks, so that all ranks act alike."""
        return flags

    def interruptible(self, signals: SignalGuard) -> AbstractContextManager[None]:
        """Let a signal end the block, an evaluation, at once and on all ranks."""
        return signals.interruptible()

    def prepare(self, train: Examples, batch_size: int) -> None:
        """Compile the network if asked to; weights and generators do not change.

        Raises:
            ConfigError: the network cannot be compiled.
        """
        if not self.device.compile:
            return
        log.info("Compiling the network, which may take minutes ...")
        images, labels = train.take(torch.arange(batch_size, device=self.device.torch_device))
        steps = (self._objective, self._measure)
        try:
            self.compiled = {step.__name__: torch.compile(step, dynamic=False) for step in steps}
            sizes = batch_size // self.num_micro_batches(batch_size), batch_size
            self.compiled_sizes = dict(zip(self.compiled, sizes, strict=True))
            with self.preserve_state():
                self.model.train()
                self.train_step(images, labels)
                self.eval_model.eval()
                with torch.inference_mode():
                    self.evaluate_step(images, labels)
        except (RuntimeError, OSError, KeyError) as error:  # the last two: no folder for its cache
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise ConfigError(
                f"device.compile=on: PyTorch cannot compile this network here: {reason}. "
                "Use device.compile=off."
            ) from error

    def steps(
        self, examples: Examples, order: torch.Tensor, batch_size: int, lr_factors: Sequence[float]
    ) -> Iterator[int]:
        """Train on the examples in the given order; yield the number of examples of each step.

        Step i multiplies the configured learning rates by lr_factors[i]. With
        train.last_batch=weighted a smaller last batch moves the weights by its share of a full
        step. Otherwise its noisier gradient would have the weight of a full batch just before each
        evaluation.
        """
        self.model.train()
        for (images, labels), factor in zip(
            examples.batches(batch_size, order), lr_factors, strict=True
        ):
            set_lr(self.optimizers, factor)
            full = self.examples_of_full_step(len(labels), batch_size)
            self.train_step(images, labels, weight=len(labels) / full)
            yield len(labels)

    def examples_of_full_step(self, examples: int, batch_size: int) -> int:
        """Return how many examples move the weights by a full step, for a batch of `examples`."""
        return batch_size if self.config.last_batch == "weighted" else examples

    def train_step(self, images: torch.Tensor, labels: torch.Tensor, weight: float = 1.0) -> None:
        """Update the weights once, with the gradient times `weight`, and add to `train_metrics`.

        Takes uint8 images (N, C, H, W) and labels (N).
        """
        inputs, targets = self.augment(self.inputs(images), labels)
        buffers = list(self.model.buffers()) if self.skips_nonfinite else []
        previous_values = [buffer.clone() for buffer in buffers]
        loss, logits = self.add_gradients(inputs, targets, weight)
        self.train_metrics.update(loss, logits, labels)
        for buffer, previous in zip(buffers, previous_values, strict=True):
            buffer.copy_(torch.where(loss.isfinite(), buffer, previous))
        if self.config.grad_clip_norm is not None:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip_norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update(None if self.scales_gradients else 1.0)
        if self.average is not None:
            self.average.update()

    def add_gradients(
        self, inputs: torch.Tensor, targets: torch.Tensor, weight: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the gradient times `weight`; return the mean loss and the logits (N, K).

        Takes inputs (N, C, S, S), and targets (N) or (N, K). With train.accumulate they are split.
        """
        parts = self.num_micro_batches(len(targets))
        if parts == 1:
            objective, loss, logits = self._run(self._objective, inputs, targets)
            objective = self.scaler.scale(objective * weight)
            objective.backward()  # type: ignore[no-untyped-call]  # torch has no type here
            return loss, logits
        losses, all_logits = [], []
        pairs = zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
        for number, (some_inputs, some_targets) in enumerate(pairs, 1):
            share = len(some_targets) / len(targets)
            with nullcontext() if number == parts else self.gradients_kept_local():
                objective, loss, logits = self._run(self._objective, some_inputs, some_targets)
                objective = self.scaler.scale(objective * (weight * share))
                objective.backward()  # type: ignore[no-untyped-call]  # torch has no type here
            losses.append(loss.detach() * share)
            all_logits.append(logits.detach())
        return torch.stack(losses).sum(), torch.cat(all_logits)

    def num_micro_batches(self, examples: int) -> int:
        """Return how many micro-batches a batch of `examples` is split into."""
        return min(self.config.accumulate, examples)

    def gradients_kept_local(self) -> AbstractContextManager[None]:
        """Let the gradients of the block, not of the last micro-batch, stay on this rank."""
        return nullcontext()

    @torch.inference_mode()
    def evaluate(self, examples: Examples, batch_size: int) -> Metrics:
        """Return the metrics of `eval_model`, in evaluation mode, on all examples."""
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
        """Return the logits (N, K) of uint8 images (N, C, H, W) in evaluation mode."""
        self.eval_model.eval()
        return self.logits(self.inputs(images))

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """Preprocess uint8 images (N, C, H, W) to inputs (N, C, size, size) of the network."""
        return self.preprocess(images).contiguous(memory_format=self.device.memory_format)

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of `eval_model` for inputs (N, C, size, size).

        With train.tta=hflip this is the mean over the inputs and their mirror images.
        """
        logits, *_ = self._forward(self.eval_model, inputs)
        if self.config.tta == "hflip":
            mirrored, *_ = self._forward(self.eval_model, inputs.flip(-1))
            logits = (logits + mirrored) / 2
        return logits

    @contextmanager
    def preserve_state(self) -> Iterator[None]:
        """Restore weights, statistics, optimizers, sums and generators after trial steps."""
        tensors = [*self.tensors(), self.train_metrics.sums, self.eval_metrics.sums]
        # On the CPU, so that the peak memory of the GPU remains that of training.
        copies, scaler = copy_to_cpu(tensors), self.scaler.state_dict()
        states = [copy_to_cpu(_optimizer_tensors(optimizer)) for optimizer in self.optimizers]
        examples = self.train_metrics.examples, self.eval_metrics.examples
        try:
            device = self.device.torch_device
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                yield
        finally:
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)
            for optimizer, state in zip(self.optimizers, states, strict=True):
                optimizer.zero_grad(set_to_none=True)
                for key, value in _optimizer_tensors(optimizer).items():
                    if key in state:
                        value.copy_(state[key])
                    else:
                        value.zero_()  # the initial value of all state in PyTorch's optimizers
            self.scaler.load_state_dict(scaler)
            self.train_metrics.examples, self.eval_metrics.examples = examples

    def _run(
        self, forward: StepFn, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Run `forward`, compiled for full batches: any other size would be compiled again."""
        if len(labels) == self.compiled_sizes.get(forward.__name__):
            forward = self.compiled[forward.__name__]
        return forward(inputs, labels)

    def _objective(self, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the objective to minimize, the loss to report, and the logits (N, K)."""
        logits, *auxiliary = self._forward(self.model, inputs)
        loss = objective = self.loss(logits, targets)
        weights: tuple[torch.Tensor, ...] = ()
        if self.class_weights is not None:  # the reported loss has no weights, as in evaluation
            weights = (weigh(targets, self.class_weights),)
            objective = self.loss(logits, targets, *weights)
        for auxiliary_logits in auxiliary:
            objective = objective + AUXILIARY_WEIGHT * self.loss(
                auxiliary_logits, targets, *weights
            )
        if self.config.l1 > 0:
            objective = objective + self.config.l1 * self.l1_penalty(self.model)
        return objective, loss, logits

    def _measure(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the loss and the logits (N, K) of `eval_model`."""
        logits = self.logits(inputs)
        return self.loss(logits, labels), logits

    def _forward(self, model: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the logits (N, K) in `device.dtype`, then the logits of auxiliary classifiers."""
        with self.autocast:
            outputs = model(inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(logits.to(self.device.dtype) for logits in outputs)


def copy_to_cpu(value: Any) -> Any:
    """Return a copy of nested values with all tensors in host memory."""
    match value:
        case torch.Tensor():
            return value.to("cpu", copy=True)
        case dict():
            return {key: copy_to_cpu(inner) for key, inner in value.items()}
        case list() | tuple():
            return [copy_to_cpu(inner) for inner in value]
    return value


def _optimizer_tensors(optimizer: Optimizer) -> dict[tuple[torch.Tensor, str], torch.Tensor]:
    """Return the tensors in the optimizer's state, by parameter and name."""
    return {
        (parameter, name): value
        for parameter, state in optimizer.state.items()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def endless_steps(engine: EagerEngine, train: Examples, batch_size: int) -> Iterator[int]:
    """Train on full batches, epoch after epoch; yield the number of examples of each step."""
    steps = len(train) // batch_size
    while True:
        order = torch.randperm(len(train))[: steps * batch_size]
        yield from engine.steps(train, order, batch_size, [1.0] * steps)
