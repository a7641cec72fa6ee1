"""Train one run in several processes, each with its share of every batch.

Every rank runs the same code over the same jobs. Rank 0 alone logs and writes, and decides what all
must agree on, by `broadcast`. Each training run has a process group of its own.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import PrefixStore
from torch.nn.parallel import DistributedDataParallel

from cnnbench.data.device_data import Examples
from cnnbench.runs.signals import SIGTERM_CODE, SignalGuard
from cnnbench.runs.torchrun_env import TIMEOUT, broadcast, processes, shared_store
from cnnbench.training.engine import EagerEngine, StepFn, copy_to_cpu
from cnnbench.training.metric_sums import Metrics, MetricSums
from cnnbench.training.optimizers import set_lr
from cnnbench.training.sync_batch_norm import use_sync_batch_norm

__all__ = [
    "DistributedEngine",
    "broadcast",
    "broadcast_checkpoint",
    "is_peer_lost",
    "process_group",
]

_LOST = (
    "Connection closed",
    "Connection reset",
    "Broken pipe",
    "gloo",
    "NCCL",
    "Timed out",
    "timed out",
)

T = TypeVar("T")


@contextmanager
def process_group(backend: str) -> Iterator[dist.ProcessGroup]:
    """Open the process group of one training run, and close it whatever ends the block.

    A `broadcast` must have come since the last group. Gives another group of the same ranks, for
    what lies in host memory.

    Raises:
        SystemExit: another rank is gone; rank 0 says so. Nothing was saved after it.
    """
    ours, shared = processes(), shared_store()
    store = PrefixStore(f"run {shared.broadcasts}", shared.store)
    try:
        rank, size = ours.rank, ours.world_size
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        control = dist.new_group(backend="gloo", timeout=TIMEOUT)
        assert isinstance(control, dist.ProcessGroup)
        yield control
    except BaseException as error:
        if backend == "nccl" and dist.is_initialized():  # it would wait for those that are gone
            dist.distributed_c10d._abort_process_group()
        if not isinstance(error, Exception) or not is_peer_lost(error):
            raise
        if ours.rank == 0:
            # of what gloo or NCCL say not where in their sources it was found
            reason = str(error).partition("\n")[0].rpartition("] ")[2].partition(". This is")[0]
            reason = reason.rstrip(".") or type(error).__name__
            print(
                f"cnnbench: Another process of this run ended, or cannot be reached: {reason}. "
                "What was done since the last checkpoint is lost.",
                file=sys.stderr,
            )
        raise SystemExit(SIGTERM_CODE) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def broadcast_checkpoint(value: T, group: dist.ProcessGroup) -> T:
    """Return the value of rank 0, which may hold tensors, on every rank of the group."""
    holder = [value]
    dist.broadcast_object_list(holder, 0, group=group)
    return holder[0]


def is_peer_lost(error: BaseException | None) -> bool:
    """Whether an error says that another process of the group is gone, or cannot be reached."""
    while error is not None:
        if isinstance(error, dist.DistError):
            return True
        if type(error) is RuntimeError and any(sign in str(error) for sign in _LOST):
            return True
        error = error.__cause__
    return False


class _DelayedMax:
    """Reduces flags to their largest over all ranks, one call later: so no rank waits for others.

    A result that is not zero is not given twice running: what was asked before it was known is the
    same request.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._result: list[int] = []
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def reduce(self, flags: Sequence[int]) -> list[int]:
        """Return the result for the flags of the call before, and begin to reduce these."""
        result = self.settle() or [0] * len(flags)
        numbers = torch.tensor(flags, dtype=torch.int32)
        work = dist.all_reduce(numbers, dist.ReduceOp.MAX, self._group, async_op=True)
        self._pending = work, numbers
        return result

    def settle(self) -> list[int]:
        """Wait for the result for the flags of the call before; empty if there was none."""
        if self._pending is None:
            return []
        work, numbers = self._pending
        work.wait()
        before = self._result or [0] * len(numbers)
        self._result = [
            0 if old else new for old, new in zip(before, numbers.tolist(), strict=True)
        ]
        self._pending = None
        return self._result


class _SharedSums(MetricSums):
    """`sums` are those of this process, `examples` count those of all."""

    def total(self) -> torch.Tensor:
        total = self.sums.clone()
        dist.all_reduce(total)
        return total


class DistributedEngine(EagerEngine):
    """Takes every `world_size`-th example of a batch; gradients and metrics are of the whole batch.

    To be used from `join` on, within a `process_group`.
    """

    sums_class = _SharedSums
    _signals: SignalGuard | None = None

    def join(self, group: dist.ProcessGroup, sync_batchnorm: bool) -> None:
        self._control = group
        self._flags = _DelayedMax(group)
        self._synchronized = use_sync_batch_norm(self.model) if sync_batchnorm else []
        self.broadcast_weights()
        # where a layout costs a copy
        warnings.filterwarnings("ignore", "Grad strides do not match")
        device = self.device.torch_device
        with warnings.catch_warnings():
            # PyTorch 2.15 has a new name for broadcast_buffers
            warnings.simplefilter("ignore", FutureWarning)
            self._network = DistributedDataParallel(
                self.model,
                device_ids=[device.index] if device.type == "cuda" else None,
                broadcast_buffers=False,  # those of rank 0 count, and are sent where they are used
            )

    @torch.no_grad()
    def broadcast_weights(self) -> None:
        for tensor in self.tensors():
            flat = tensor.contiguous()  # which one in channels-last format is not
            dist.broadcast(flat, 0)
            tensor.copy_(flat)

    def state(self) -> dict[str, Any]:
        state, ours = super().state(), processes()
        own = copy_to_cpu({name: state[name] for name in ("sums", "generators")})
        parts = [None] * ours.world_size if ours.rank == 0 else None
        dist.gather_object(own, parts, 0, group=self._control)
        return {**state, "sums": self.train_metrics.total(), "processes": parts}

    def reduce_max(self, flags: Sequence[int]) -> list[int]:
        return self._flags.reduce(flags)

    @contextmanager
    def interruptible(self, signals: SignalGuard) -> Iterator[None]:
        self._signals = signals
        try:
            yield
        finally:
            self._signals = None

    def prepare(self, train: Examples, batch_size: int) -> None:
        """Prepare as in one process, and run a trial step.

        After it DistributedDataParallel puts its buckets into their final order, so that gradients
        are added up in the same order in every step, also in those of a resumed run.
        """
        super().prepare(train, -(-batch_size // processes().world_size))
        with self.preserve_state():
            self.model.train()
            batch = torch.arange(batch_size, device=self.device.torch_device)
            images, labels = train.take(self._part(batch))
            objective, *_ = self._objective(*self.augment(self.inputs(images), labels))
            objective.backward()  # type: ignore[no-untyped-call]  # so in torch

    def steps(
        self, examples: Examples, order: torch.Tensor, batch_size: int, lr_factors: Sequence[float]
    ) -> Iterator[int]:
        self.model.train()
        batches = torch.split(order.to(self.device.torch_device), batch_size) if len(order) else ()
        for batch, factor in zip(batches, lr_factors, strict=True):
            set_lr(self.optimizers, factor)
            part = self._part(batch)
            before = self.train_metrics.sums.clone(), self.train_metrics.examples
            for module in self._synchronized:
                module.counts = len(part) > 0
            # DistributedDataParallel divides by the number of ranks; one without a share takes part
            images, labels = examples.take(part if len(part) else batch)
            self.train_step(images, labels, weight=len(part) * processes().world_size / batch_size)
            if not len(part):
                self.train_metrics.sums.copy_(before[0])
            self.train_metrics.examples = before[1] + len(batch)
            yield len(batch)

    def evaluate(self, examples: Examples, batch_size: int) -> Metrics:
        self.broadcast_weights()
        self.eval_model.eval()
        self.eval_metrics.reset()
        with torch.inference_mode():
            indices = torch.arange(len(examples), device=self.device.torch_device)
            for batch in torch.split(indices, batch_size):
                part = self._part(batch)
                if len(part):
                    self.evaluate_step(*examples.take(part))
                self._stop_if_agreed()
            self._stop_if_agreed(last=True)
            self.eval_metrics.examples = len(examples)
            return self.eval_metrics.compute()

    def _stop_if_agreed(self, *, last: bool = False) -> None:
        signals = self._signals
        if signals is None:
            return
        flags = self._flags.settle() if last else self.reduce_max([signals.signal or 0, 0, 0])
        if any(flags[:1]):
            signals.signal = flags[0]
            signals.check()

    def _part(self, batch: torch.Tensor) -> torch.Tensor:
        """Return what this rank takes of a batch (N), which may be nothing."""
        ours = processes()
        return batch[ours.rank :: ours.world_size]

    def _forward(self, model: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        trains = model is self.model and torch.is_grad_enabled()
        return super()._forward(self._network if trains else model, inputs)

    def _run(
        self, forward: StepFn, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        results = super()._run(forward, inputs, labels)
        if not self.skips_nonfinite or forward.__name__ != "_objective":
            return results
        objective, loss, logits = results
        total = loss.detach().clone()
        dist.all_reduce(total)  # the step is skipped if the loss is not finite in any process
        return objective, torch.where(total.isfinite(), loss, total), logits
