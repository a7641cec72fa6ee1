"""Batch normalisation over the examples of all processes, on any device, as one process would normalise the batch.

torch.nn.SyncBatchNorm does the same on GPUs alone.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

__all__ = ["SyncBatchNorm", "use_sync_batch_norm"]


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverProcesses.forward(ctx, gradient.contiguous())


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """In training, the mean and variance are those of the whole batch; `counts` is false for one that takes no part."""

    counts = True

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) to the same shape, type and memory format."""
        if not self.training:
            return super().forward(inputs)
        self._check_input_dim(inputs)  # type: ignore[no-untyped-call]  # so in torch
        values = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
        others = [dimension for dimension in range(inputs.ndim) if dimension != 1]
        each = [-1 if dimension == 1 else 1 for dimension in range(inputs.ndim)]

        def total(terms: torch.Tensor) -> torch.Tensor:
            sums: torch.Tensor = _SumOverProcesses.apply(terms.sum(others) * self.counts)
            return sums

        count = values.new_tensor([self.counts * inputs.numel() / inputs.shape[1]])
        dist.all_reduce(count)
        mean = total(values) / count
        centred = values - mean.view(each)
        variance = total(centred.square()) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        outputs = centred * (variance + self.eps).rsqrt().view(each)
        if self.affine:
            outputs = outputs * self.weight.view(each) + self.bias.view(each)
        return outputs.to(inputs.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if (
            self.running_mean is None
            or self.running_var is None
            or self.num_batches_tracked is None
        ):
            return
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class _SyncBatchNorm1d(SyncBatchNorm, nn.BatchNorm1d):
    pass


class _SyncBatchNorm2d(SyncBatchNorm, nn.BatchNorm2d):
    pass


_KINDS: dict[type, type[SyncBatchNorm]] = {
    nn.BatchNorm1d: _SyncBatchNorm1d,
    nn.BatchNorm2d: _SyncBatchNorm2d,
}


def use_sync_batch_norm(network: nn.Module) -> list[SyncBatchNorm]:
    """Let all batch normalisation in `network` be over all processes, with the same parameters and statistics."""
    found = []
    for module in network.modules():
        if type(module) in _KINDS:
            module.__class__ = _KINDS[type(module)]  # it has no state of its own
            assert isinstance(module, SyncBatchNorm)
            found.append(module)
    return found
