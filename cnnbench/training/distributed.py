"""One run over several processes: DistributedDataParallel, each process with its share of every batch.

The first process, of rank 0, is the command line. The others follow it: they wait for its orders, one for each
training run, and take part in that run. Orders go through the store that torchrun keeps, where nothing but an order
ends the wait, and for each run a process group of its own is made.
"""

import functools
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from cnnbench.data.resident import Examples
from cnnbench.runs.processes import processes
from cnnbench.runs.stopping import Stopping
from cnnbench.training.engine import EagerEngine, Metrics, MetricSums, Pass, on_host
from cnnbench.training.optimizers import set_lr
from cnnbench.training.sync_batch_norm import synchronise

__all__ = ["DistributedEngine", "Orders", "is_peer_lost", "orders", "process_group", "seed_for"]

ORDER_TIMEOUT = timedelta(days=365)
TIMEOUT = timedelta(minutes=30)  # for what all processes do together: the slowest may have data to fetch
_LOST = ("Connection closed", "Connection reset", "Broken pipe", "gloo", "NCCL", "Timed out", "timed out")


class Orders:
    """What the first process tells the others to do, one after the other."""

    def __init__(self) -> None:
        ours = processes()
        store, _, _ = next(iter(rendezvous("env://", ours.rank, ours.world_size, timeout=TIMEOUT)))
        self.store = PrefixStore(f"cnnbench/{ours.restarts}", store)
        self.count = 0

    def send(self, order: dict[str, Any] | None) -> None:
        """Tell the others to take part in a training run or, with None, to end."""
        self.count += 1
        self.store.set(f"order {self.count}", json.dumps(order))

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next order; None if there is none to come, or the first process is gone."""
        self.count += 1
        with suppress(dist.DistError):
            self.store.wait([f"order {self.count}"], ORDER_TIMEOUT)
            order: dict[str, Any] | None = json.loads(self.store.get(f"order {self.count}"))
            return order
        return None


@functools.cache
def orders() -> Orders:
    return Orders()


@contextmanager
def process_group(backend: str) -> Iterator[dist.ProcessGroup]:
    """The group of the processes that work on the last order, closed at the end whatever ended it.

    Gives another group of the same, for what lies in host memory.
    """
    ours = processes()
    store = PrefixStore(f"run {orders().count}", orders().store)
    dist.init_process_group(backend, store=store, rank=ours.rank, world_size=ours.world_size, timeout=TIMEOUT)
    try:
        control = dist.new_group(backend="gloo", timeout=TIMEOUT)
        assert isinstance(control, dist.ProcessGroup)
        yield control
    except BaseException:
        if backend == "nccl":  # which else waits for those that do not come
            dist.distributed_c10d._abort_process_group()
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def is_peer_lost(error: BaseException | None) -> bool:
    """Whether an error says that another process of the group is gone, or cannot be reached."""
    while error is not None:
        if isinstance(error, dist.DistError):
            return True
        if type(error) is RuntimeError and any(sign in str(error) for sign in _LOST):
            return True
        error = error.__cause__
    return False


def seed_for(seed: int, rank: int, epoch: int, step: int) -> int:
    """The seed of dropout and augmentation in a process that has no generators to go on with."""
    state = int(np.random.SeedSequence([seed, rank, epoch, step]).generate_state(1, np.uint64)[0])
    return state & (2**63 - 1)


class _Agreement:
    """Numbers of which all processes know the largest, one call later: so none of them waits for the others.

    An answer that is not zero is not given twice running, as what was asked before it was known is the same request.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._answer: list[int] = []
        self._asked: tuple[dist.Work, torch.Tensor] | None = None

    def ask(self, wishes: Sequence[int]) -> list[int]:
        """The answer to what was asked before; asks for `wishes`."""
        answer = self.settle() or [0] * len(wishes)
        numbers = torch.tensor(wishes, dtype=torch.int32)
        work = dist.all_reduce(numbers, dist.ReduceOp.MAX, self._group, async_op=True)
        self._asked = work, numbers
        return answer

    def settle(self) -> list[int]:
        """Wait for the answer to what was asked before; nothing if nothing was."""
        if self._asked is None:
            return []
        work, numbers = self._asked
        work.wait()
        before = self._answer or [0] * len(numbers)
        self._answer = [0 if old else new for old, new in zip(before, numbers.tolist(), strict=True)]
        self._asked = None
        return self._answer


class _SharedSums(MetricSums):
    """`sums` are those of this process, `examples` count those of all."""

    def total(self) -> torch.Tensor:
        total = self.sums.clone()
        dist.all_reduce(total)
        return total


class DistributedEngine(EagerEngine):
    """Takes every `world_size`-th example of each batch; gradients and metrics are those of the whole batch.

    To be used from `join` on, within a `process_group`.
    """

    _stopping: Stopping | None = None

    @property
    def rank(self) -> int:
        return processes().rank

    @property
    def world_size(self) -> int:
        return processes().world_size

    @property
    def backend(self) -> str:
        return "nccl" if self.device.kind.type == "cuda" else "gloo"

    def join(self, control: dist.ProcessGroup, sync_batchnorm: bool) -> None:
        """Begin to work with the others, who call this too; all have the weights of the first from now on."""
        self._control = control
        self._agreement = _Agreement(self._control)
        self._synchronised = synchronise(self.model) if sync_batchnorm else []
        self.share()
        warnings.filterwarnings("ignore", "Grad strides do not match")  # where a layout costs a copy
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch 2.15 has a new name for broadcast_buffers
            self._network = DistributedDataParallel(
                self.model,
                device_ids=[self.device.kind.index] if self.device.kind.type == "cuda" else None,
                broadcast_buffers=False,  # those of the first process count, and are shared where they are used
            )

    def make_sums(self, leaves_out: bool = False) -> MetricSums:
        return _SharedSums(self.device.kind, leaves_out)

    @torch.no_grad()
    def share(self) -> None:
        average = {} if self.average is None else self.average.model.state_dict()
        for tensor in (*self.model.state_dict().values(), *average.values()):
            flat = tensor.contiguous()  # which one in channels-last format is not
            dist.broadcast(flat, 0)
            tensor.copy_(flat)

    def state(self) -> dict[str, Any]:
        state = super().state()
        own = on_host({name: state[name] for name in ("sums", "generators")})
        parts = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(own, parts, 0, group=self._control)
        return {**state, "sums": self.sums.total(), "processes": parts}

    def agree(self, wishes: Sequence[int]) -> list[int]:
        return self._agreement.ask(wishes)

    @contextmanager
    def stoppable(self, stopping: Stopping) -> Iterator[None]:
        self._stopping = stopping
        try:
            yield
        finally:
            self._stopping = None

    def prepare(self, train: Examples, batch_size: int) -> None:
        """As in one process; and a trial, after which DistributedDataParallel puts its buckets into their final order.

        From then on gradients are added up in the same order in every step, also in those of a run that goes on.
        """
        super().prepare(train, -(-batch_size // self.world_size))
        with self.unchanged():
            self.model.train()
            images, labels = train.take(self._part(torch.arange(batch_size, device=self.device.kind)))
            self._objective(*self.augment(self.inputs(images), labels))[0].backward()  # type: ignore[no-untyped-call]  # so in torch

    def steps(
        self, examples: Examples, order: torch.Tensor, batch_size: int, lr_factors: Sequence[float]
    ) -> Iterator[int]:
        self.model.train()
        batches = torch.split(order.to(self.device.kind), batch_size) if len(order) else ()
        for batch, factor in zip(batches, lr_factors, strict=True):
            set_lr(self.optimizers, factor)
            part = self._part(batch)
            before = self.sums.sums.clone(), self.sums.examples
            for module in self._synchronised:
                module.counts = len(part) > 0
            # DistributedDataParallel divides by the number of processes; one that has no share still takes part
            images, labels = examples.take(part if len(part) else batch)
            self.train_step(images, labels, weight=len(part) * self.world_size / batch_size)
            if not len(part):
                self.sums.sums.copy_(before[0])
            self.sums.examples = before[1] + len(batch)
            yield len(batch)

    def evaluate(self, examples: Examples, batch_size: int) -> Metrics:
        self.share()
        self.evaluated.eval()
        self.evaluation_sums.reset()
        with torch.inference_mode():
            for batch in torch.split(torch.arange(len(examples), device=self.device.kind), batch_size):
                part = self._part(batch)
                if len(part):
                    self.evaluate_step(*examples.take(part))
                self._stop_if_agreed()
            self._stop_if_agreed(last=True)
            self.evaluation_sums.examples = len(examples)
            return self.evaluation_sums.compute()

    def _stop_if_agreed(self, *, last: bool = False) -> None:
        if self._stopping is not None:
            answer = self._agreement.settle() if last else self.agree([self._stopping.signal or 0, 0, 0])
            if any(answer[:1]):
                self._stopping.signal = answer[0]
                self._stopping.check()

    def _part(self, batch: torch.Tensor) -> torch.Tensor:
        """What this process takes of a batch (N); nothing if there are more processes than examples."""
        return batch[self.rank :: self.world_size]

    def _forward(self, model: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        trains = model is self.model and torch.is_grad_enabled()
        return super()._forward(self._network if trains else model, inputs)

    def _run(self, forward: Pass, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = super()._run(forward, inputs, labels)
        if not self.skips or forward.__name__ != "_objective":
            return results
        objective, loss, logits = results
        total = loss.detach().clone()
        dist.all_reduce(total)  # the step is skipped if the loss is not finite in any process
        return objective, torch.where(total.isfinite(), loss, total), logits
