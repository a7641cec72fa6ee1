"""The step engine that captures a whole training step in one CUDA graph.

A step of a small network launches about a hundred kernels of microseconds each. To launch one takes
the host about as long as the GPU takes to run it. A graph launches all kernels at once. The order
of the epoch's examples and the learning rates lie on the device, where a counter selects the
current row. So no step waits for the host.
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

# In these steps cuDNN chooses its algorithms and Triton compiles, which a capture does not allow.
WARM_UP_STEPS = 3


class CaptureError(Exception):
    """A step does something that a CUDA graph cannot capture."""


class GraphEngine(EagerEngine):
    """Replays the step of a full batch. A smaller last batch runs as in the eager engine."""

    _pool: Any = None
    _replay_training: Step | None = None
    _replay_evaluation: Step | None = None

    def prepare(self, train: Examples, batch_size: int) -> None:
        self.name = "eager"
        self._replay_training = self._replay_evaluation = None
        # Collect the graphs of an earlier run now: PyTorch frees their memory pool with them, and
        # the new graphs use the same pool.
        gc.collect()
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
                self._replay_training = self.capture(self._train_on_row)
            with self.preserve_state(), torch.inference_mode():
                self.eval_model.eval()
                self._replay_evaluation = self.capture(
                    partial(super().evaluate_step, self._images, self._labels)
                )
            self.name = "graph"
        except CaptureError as error:
            self._replay_training = self._replay_evaluation = None
            # The failed capture leaves the scaler in the middle of a step.
            state, is_enabled = self.scaler.state_dict(), self.scaler.is_enabled()
            self.scaler = torch.amp.GradScaler(device.type, enabled=is_enabled)
            self.scaler.load_state_dict(state)
            log.warning(
                f"The step cannot be captured in a CUDA graph ({error}). It runs eagerly instead."
            )

    def capture(self, step: Step) -> Step:
        """Warm up and record `step`; return a function that replays it.

        Raises:
            CaptureError: the step cannot be recorded.
        """
        with warnings.catch_warnings():
            # Optimizers with capturable=True warn if a step is not captured.
            warnings.simplefilter("ignore")
            for _ in range(WARM_UP_STEPS):
                step()
            try:
                return self.record(step)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                raise CaptureError(str(error).strip().partition("\n")[0]) from error

    def record(self, step: Step) -> Step:
        """Record `step` as a CUDA graph; return a function that replays it.

        Raises:
            RuntimeError: the step waits for the GPU, or PyTorch cannot record it.
        """
        # Find synchronizing steps before the capture: a failed one breaks the random generators.
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        self._pool = graph.pool()  # shared: the two graphs never run at the same time
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

    def _train_on_row(self) -> None:
        """Train on the batch in the current row of the order, and advance the row."""
        lr_factor = self._lr_factors.index_select(0, self._row)[0]
        for lr, initial_lr in self._lrs:
            torch.mul(lr_factor, initial_lr, out=lr)
        self.train_step(*self._train.take(self._order.index_select(0, self._row)[0]))
        self._row += 1

    @contextmanager
    def _lrs_on_device(self) -> Iterator[None]:
        """Keep the learning rates in tensors during the block: a graph would freeze a number."""
        device = self.device.torch_device
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        previous_groups = [dict(group) for group in groups]
        self._lrs: list[tuple[torch.Tensor, float]] = []
        for optimizer in self.optimizers:
            if "capturable" in optimizer.defaults:
                for state in optimizer.state.values():
                    # A resumed run has loaded the step counts onto the CPU.
                    state["step"] = state["step"].to(device)
        for group in groups:
            lr = torch.zeros((), dtype=self.device.dtype, device=device)
            self._lrs.append((lr, group["initial_lr"]))
            group["lr"] = lr
            if "capturable" in group:
                group["capturable"] = True
        try:
            yield
        finally:
            for group, previous in zip(groups, previous_groups, strict=True):
                group.update(previous)
