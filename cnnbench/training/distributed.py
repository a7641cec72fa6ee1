"""Train one run in several processes, each with its share of every batch.

Every rank runs the same code and the same jobs. Only rank 0 logs and writes. Rank 0 also makes the
decisions on which all ranks must agree, and sends them with `broadcast`. Each training run opens a
new process group.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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

# Parts of the messages with which gloo and NCCL report a lost peer.
_PEER_LOST_MESSAGES = (
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
    """Open the process group of one training run, and close it at the end of the block.

    Yield a second group of the same ranks, for tensors in host memory. Call `broadcast` at least
    once between two groups, as the number of broadcasts names the group.

    Raises:
        SystemExit: another rank ended; rank 0 has printed it. Nothing was saved after that.
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
        if backend == "nccl" and dist.is_initialized():  # destroying it would wait for them
            dist.distributed_c10d._abort_process_group()
        if not isinstance(error, Exception) or not is_peer_lost(error):
            raise
        if ours.rank == 0:
            # Remove the place in the sources that gloo and NCCL put before their message.
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
    values = [value]
    dist.broadcast_object_list(values, 0, group=group)
    return values[0]


def is_peer_lost(error: BaseException | None) -> bool:
    """Return whether the error means that another process ended or cannot be reached."""
    while error is not None:
        if isinstance(error, dist.DistError):
            return True
        if type(error) is RuntimeError:
            message = str(error)
            if any(part in message for part in _PEER_LOST_MESSAGES):
                return True
        error = error.__cause__
    return False


class _DelayedMax:
    """Computes the maximum of flags over all ranks, one call later, so that no rank waits.

    After a nonzero result the next result of that flag is zero. A rank that set the flag before it
    knew the result made the same request.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._result: list[int] = []
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def reduce(self, flags: Sequence[int]) -> list[int]:
        """Return the result for the flags of the previous call, and begin to reduce these."""
        result = self.settle() or [0] * len(flags)
        maxima = torch.tensor(flags, dtype=torch.int32)
        work = dist.all_reduce(maxima, dist.ReduceOp.MAX, self._group, async_op=True)
        self._pending = work, maxima
        return result

    def settle(self) -> list[int]:
        """Wait for the result for the flags of the previous call; empty if there was none."""
        if self._pending is None:
            return []
        work, maxima = self._pending
        work.wait()
        previous = self._result or [0] * len(maxima)
        pairs = zip(previous, maxima.tolist(), strict=True)
        self._result = [0 if old else new for old, new in pairs]
        self._pending = None
        return self._result


class _SharedSums(MetricSums):
    """Metric sums over all ranks: `sums` holds those of this rank, `examples` counts all."""

    def total(self) -> torch.Tensor:
        total = self.sums.clone()
        dist.all_reduce(total)
        return total


class DistributedEngine(EagerEngine):
    """Trains on every `world_size`-th example of a batch, with gradients of the whole batch.

    Metrics cover the whole batch, too. Call `join` first, within a `process_group`.
    """

    sums_class = _SharedSums
    _signals: SignalGuard | None = None

    def join(self, group: dist.ProcessGroup, sync_batchnorm: bool) -> None:
        self._control = group
        self._flags = _DelayedMax(group)
        self._synchronized = use_sync_batch_norm(self.model) if sync_batchnorm else []
        self.broadcast_weights()
        # DistributedDataParallel warns that the channels-last layout costs it a copy.
        warnings.filterwarnings("ignore", "Grad strides do not match")
        device = self.device.torch_device
        with warnings.catch_warnings():
            # PyTorch 2.15 has a new name for broadcast_buffers
            warnings.simplefilter("ignore", FutureWarning)
            self._network = DistributedDataParallel(
                self.model,
                device_ids=[device.index] if device.type == "cuda" else None,
                broadcast_buffers=False,  # `broadcast_weights` sends the buffers of rank 0
            )

    @torch.no_grad()
    def broadcast_weights(self) -> None:
        for tensor in self.tensors():
            contiguous = tensor.contiguous()  # channels-last tensors cannot be sent
            dist.broadcast(contiguous, 0)
            tensor.copy_(contiguous)

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

    def gradients_kept_local(self) -> AbstractContextManager[None]:
        return self._network.no_sync()

    def num_micro_batches(self, examples: int) -> int:
        return self._num_micro_batches

    def prepare(self, train: Examples, batch_size: int) -> None:
        """Prepare as in one process, and run a trial step.

        After its first step DistributedDataParallel reorders its buckets. With a trial step every
        training step sums gradients in the same order, also the first step of a resumed run.
        """
        self._set_micro_batches(batch_size)
        super().prepare(train, -(-batch_size // processes().world_size))
        with self.preserve_state():
            self.model.train()
            batch = torch.arange(batch_size, device=self.device.torch_device)
            images, labels = train.take(self._part(batch))
            self.add_gradients(*self.augment(self.inputs(images), labels), weight=1.0)

    def steps(
        self, examples: Examples, order: torch.Tensor, batch_size: int, lr_factors: Sequence[float]
    ) -> Iterator[int]:
        self.model.train()
        batches = torch.split(order.to(self.device.torch_device), batch_size) if len(order) else ()
        for batch, factor in zip(batches, lr_factors, strict=True):
            set_lr(self.optimizers, factor)
            self._set_micro_batches(len(batch))
            part = self._part(batch)
            sums, num_examples = self.train_metrics.sums.clone(), self.train_metrics.examples
            for module in self._synchronized:
                module.is_counted = len(part) > 0
            # Every rank must take each step, so a rank without a share trains with weight 0.
            # DistributedDataParallel divides the sum of gradients by the number of ranks.
            images, labels = examples.take(part if len(part) else batch)
            full = self.examples_of_full_step(len(batch), batch_size)
            self.train_step(images, labels, weight=len(part) * processes().world_size / full)
            if not len(part):
                self.train_metrics.sums.copy_(sums)
            self.train_metrics.examples = num_examples + len(batch)
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
            self._stop_if_agreed(is_last=True)
            self.eval_metrics.examples = len(examples)
            return self.eval_metrics.compute()

    def _stop_if_agreed(self, *, is_last: bool = False) -> None:
        """End the evaluation on all ranks if any rank has received a signal."""
        signals = self._signals
        if signals is None:
            return
        flags = self._flags.settle() if is_last else self.reduce_max([signals.signal or 0, 0, 0, 0])
        if any(flags[:1]):
            signals.signal = flags[0]
            signals.check()

    def _set_micro_batches(self, batch_size: int) -> None:
        """Split the share of each rank into the same number of parts, as all ranks must agree."""
        smallest = batch_size // processes().world_size
        self._num_micro_batches = max(1, min(self.config.accumulate, smallest))

    def _part(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the share of this rank, which may be empty, of the indices (N) of a batch."""
        ours = processes()
        return batch[ours.rank :: ours.world_size]

    def _forward(self, model: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        is_training = model is self.model and torch.is_grad_enabled()
        return super()._forward(self._network if is_training else model, inputs)

    def _run(
        self, forward: StepFn, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        results = super()._run(forward, inputs, labels)
        if not self.skips_nonfinite or forward.__name__ != "_objective":
            return results
        objective, loss, logits = results
        total = loss.detach().clone()
        dist.all_reduce(total)  # a non-finite loss on any rank makes all ranks skip the step
        return objective, torch.where(total.isfinite(), loss, total), logits
