"""The step engine that lets a GPU work without the host: a whole step is one CUDA graph.

A step of a small network is some hundred kernels of microseconds each, and to launch one takes the host
about as long as the GPU takes to run it. A graph launches them all at once. Nothing in it waits for the host
either: the order of the epoch and the learning rates lie on the device, where a counter tells whose turn it is.
"""

import gc
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from cnnbench.data.device_data import Examples
from cnnbench.errors import is_out_of_memory
from cnnbench.training.engine import EagerEngine

__all__ = ["GraphEngine"]

Step = Callable[[], None]

log = logging.getLogger("cnnbench")

WARM_UP_STEPS = (
    3  # in which cuDNN chooses its algorithms and Triton compiles: a capture cannot wait for that
)


class CaptureError(Exception):
    """What a step does that a graph cannot hold."""


class GraphEngine(EagerEngine):
    """Replays the step of a full batch; the last, smaller batch of an epoch runs as in the eager engine."""

    _pool: Any = None
    _replay_training: Step | None = None
    _replay_evaluation: Step | None = None

    def prepare(self, train: Examples, batch_size: int) -> None:
        self.name = "eager"
        self._replay_training = self._replay_evaluation = None
        gc.collect()  # graphs of a run before: PyTorch frees what they work in when they go, and this one shares it
        super().prepare(train, batch_size)
        device = self.device.torch_device
        rows = max(len(train) // batch_size, WARM_UP_STEPS + 1)
        self._train = train
        self._order = torch.arange(batch_size, device=device).repeat(rows, 1)
        self._lr_factors = torch.zeros(rows, device=device, dtype=self.device.dtype)
        self._row = torch.zeros(1, dtype=torch.int64, device=device)
        self._images, self._labels = (tensor.clone() for tensor in train.take(self._order[0]))
        try:
            with self.preserve_state(), self._lrs_on_device():
                self.model.train()
                self._replay_training = self.capture(self._step_of_row)
            with self.preserve_state(), torch.inference_mode():
                self.eval_model.eval()
                self._replay_evaluation = self.capture(
                    partial(super().evaluate_step, self._images, self._labels)
                )
            self.name = "graph"
        except CaptureError as error:
            self._replay_training = self._replay_evaluation = None
            interrupted, self.scaler = (
                self.scaler,
                torch.amp.GradScaler(device.type, enabled=self.scaler.is_enabled()),
            )
            self.scaler.load_state_dict(interrupted.state_dict())
            log.warning(
                f"The step cannot be captured in a CUDA graph ({error}). It runs eagerly instead."
            )

    def capture(self, step: Step) -> Step:
        """Run `step` a few times, then record it; return what replays it, or raise CaptureError."""
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # optimizers made for capture warn when they run without it
            for _ in range(WARM_UP_STEPS):
                step()
            try:
                return self.record(step)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                raise CaptureError(str(error).strip().partition("\n")[0]) from error

    def record(self, step: Step) -> Step:
        """Record `step` as a CUDA graph; return what replays it.

        A step that waits for the GPU, or that PyTorch refuses to record, is a RuntimeError.
        """
        torch.cuda.set_sync_debug_mode(
            "error"
        )  # first, as a capture that fails leaves the generators unusable
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        self._pool = graph.pool()  # two graphs that never run at once may use the same memory
        return graph.replay

    def steps(
        self, examples: Examples, order: torch.Tensor, batch_size: int, lr_factors: Sequence[float]
    ) -> Iterator[int]:
        replayed = 0
        if self._replay_training is not None:
            assert examples is self._train
            replayed = len(order) // batch_size
            self._order[:replayed] = order[: replayed * batch_size].view(replayed, batch_size)
            self._lr_factors[:replayed] = torch.tensor(
                lr_factors[:replayed], dtype=self.device.dtype
            )
            self._row.zero_()
            for _ in range(replayed):
                self._replay_training()
                self.train_metrics.examples += batch_size
                yield batch_size
        if replayed < len(lr_factors):
            yield from super().steps(
                examples, order[replayed * batch_size :], batch_size, lr_factors[replayed:]
            )

    def evaluate_step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        if self._replay_evaluation is None or len(labels) != len(self._labels):
            super().evaluate_step(images, labels)
            return
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._replay_evaluation()
        self.eval_metrics.examples += len(labels)

    def _step_of_row(self) -> None:
        """Train on the examples that the next row of the order names."""
        lr_factor = self._lr_factors.index_select(0, self._row)[0]
        for lr, initial_lr in self._lrs:
            torch.mul(lr_factor, initial_lr, out=lr)
        self.train_step(*self._train.take(self._order.index_select(0, self._row)[0]))
        self._row += 1

    @contextmanager
    def _lrs_on_device(self) -> Iterator[None]:
        """Let the optimizers take their learning rates from tensors: a graph would keep a number for ever."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        before = [dict(group) for group in groups]
        self._lrs = [
            (
                torch.zeros((), dtype=self.device.dtype, device=self.device.torch_device),
                group["initial_lr"],
            )
            for group in groups
        ]
        for optimizer in self.optimizers:
            if "capturable" in optimizer.defaults:
                for state in (
                    optimizer.state.values()
                ):  # a run that goes on has read its steps onto the host
                    state["step"] = state["step"].to(self.device.torch_device)
        for group, (lr, _) in zip(groups, self._lrs, strict=True):
            group["lr"] = lr
            if "capturable" in group:
                group["capturable"] = True
        try:
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)
