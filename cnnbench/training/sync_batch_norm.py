"""Batch normalization over the examples of all processes, on any device.

The result is that of one process with the whole batch. torch.nn.SyncBatchNorm does the same, but
only on GPUs.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

__all__ = ["SyncBatchNorm", "use_sync_batch_norm"]


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, with its gradient."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverProcesses.forward(ctx, gradient.contiguous())


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization that trains with the mean and variance of the whole batch.

    On a rank without a share of the batch set `is_counted` to false: its inputs do not count.
    """

    is_counted = True

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalize inputs (N, C, ...); the outputs have the same shape, type and memory format."""
        if not self.training:
            return super().forward(inputs)
        self._check_input_dim(inputs)  # type: ignore[no-untyped-call]
        values = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
        other_dims = [dim for dim in range(inputs.ndim) if dim != 1]
        per_channel = [-1 if dim == 1 else 1 for dim in range(inputs.ndim)]  # a shape

        def sum_per_channel(terms: torch.Tensor) -> torch.Tensor:
            sums: torch.Tensor = _SumOverProcesses.apply(terms.sum(other_dims) * self.is_counted)
            return sums

        count = values.new_tensor([self.is_counted * inputs.numel() / inputs.shape[1]])
        dist.all_reduce(count)
        mean = sum_per_channel(values) / count
        centered = values - mean.view(per_channel)
        variance = sum_per_channel(centered.square()) / count
        self._update_running_stats(mean.detach(), variance.detach() * count / (count - 1))
        outputs = centered * (variance + self.eps).rsqrt().view(per_channel)
        if self.affine:
            outputs = outputs * self.weight.view(per_channel) + self.bias.view(per_channel)
        return outputs.to(inputs.dtype)

    @torch.no_grad()
    def _update_running_stats(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
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


_SYNC_CLASSES: dict[type, type[SyncBatchNorm]] = {
    nn.BatchNorm1d: _SyncBatchNorm1d,
    nn.BatchNorm2d: _SyncBatchNorm2d,
}


def use_sync_batch_norm(network: nn.Module) -> list[SyncBatchNorm]:
    """Replace batch normalization in `network` by SyncBatchNorm; return the replaced modules.

    Parameters and running statistics stay.
    """
    replaced = []
    for module in network.modules():
        if type(module) in _SYNC_CLASSES:
            module.__class__ = _SYNC_CLASSES[type(module)]  # a subclass without more state
            assert isinstance(module, SyncBatchNorm)
            replaced.append(module)
    return replaced
