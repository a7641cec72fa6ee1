"""Batch last: compute small convolutions on maps (T, C, H, W, N), for speed on a CPU.

Channels last, six channels fill few lanes of a vector register, and pooling and batch normalization
none. Batch last, every operation runs over the batch. A convolution is the product of its weights
and the windows of the maps. Where 2 x 2 outputs are pooled, one window holds the pixels of all
four. So the product has four times the rows, and pooling compares or adds up four matrices. The
parameters of the network do not change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

import torch
from torch import nn

from cnnbench.training.batch_last_ops import (
    IN_PLACE,
    Activation,
    AvgPool,
    BatchNorm,
    Convolution,
    MaxPool,
    Windows,
)

__all__ = ["MIN_EXAMPLES", "BatchLastSequential", "use_batch_last", "uses_batch_last"]

L = TypeVar("L", bound=nn.Module)

# Outputs of the first convolution, and of those that follow. Measured: more channels fill the
# vectors of the usual convolution.
MAX_CHANNELS_FP32 = 8, 16
MAX_CHANNELS_BF16 = 10, 20
MAX_PIXELS = 64 * 64  # larger images leave the caches
MIN_EXAMPLES = 128  # of a batch
MIN_EXAMPLES_OF_THREAD = 32  # with fewer the loops over them are short


@dataclass(frozen=True)
class Unit:
    """A convolution, and the normalization, pooling and activation that follow it."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None
    before: nn.Module | None  # the activation before pooling
    pool: nn.MaxPool2d | nn.AvgPool2d
    after: nn.Module | None  # the activation after pooling

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps (T, C', H', W', N) for maps (T, C, H, W, N)."""
        conv, norm, weight, bias = self.conv, self.norm, self.conv.weight, self.conv.bias
        if bias is None:
            bias = weight.new_zeros(len(weight))
        if norm is not None and not norm.training:
            weight, bias = _apply_statistics(weight, bias, norm)
        assert not isinstance(conv.padding, str)
        windows = Windows(conv.kernel_size[0], conv.padding[0])
        outputs: torch.Tensor = Convolution.apply(maps, weight, bias, windows)
        if norm is not None and norm.training:
            outputs, mean, variance = BatchNorm.apply(outputs, norm.weight, norm.bias, norm.eps)
            _update_statistics(norm, mean, variance, outputs[:, :, 0].numel())
        if self.before is not None:
            outputs = Activation.apply(outputs, type(self.before))
        pool = MaxPool if isinstance(self.pool, nn.MaxPool2d) else AvgPool
        outputs = pool.apply(outputs)
        return outputs if self.after is None else self.after(outputs)


def _apply_statistics(
    weight: torch.Tensor, bias: torch.Tensor, norm: nn.BatchNorm2d
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a convolution that normalizes by the running statistics."""
    mean, variance = _running_statistics(norm)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return weight * scale[:, None, None, None], (bias - mean) * scale + norm.bias


@torch.no_grad()
def _update_statistics(
    norm: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor, count: int
) -> None:
    """Update the running statistics as nn.BatchNorm2d does, with the unbiased variance."""
    running_mean, running_variance = _running_statistics(norm)
    assert norm.momentum is not None
    running_mean.lerp_(mean, norm.momentum)
    running_variance.lerp_(variance * (count / (count - 1)), norm.momentum)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)


def _running_statistics(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


class BatchLastSequential(nn.Sequential):
    """A sequence that begins with units, which it computes batch last."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the outputs of all layers for images (N, C, H, W)."""
        examples, _, height, width = images.shape
        in_bf16 = torch.is_autocast_enabled("cpu")
        is_small = examples < MIN_EXAMPLES or height * width > MAX_PIXELS
        is_slower = not self.training and not in_bf16
        # Hooks of a layer get its outputs as PyTorch lays them out.
        has_hooks = any(layer._forward_hooks or layer._forward_pre_hooks for layer in self)
        # There are no units if, say, SyncBatchNorm has replaced a layer.
        units, layers = split_units(list(self), in_bf16)
        if is_small or is_slower or has_hooks:
            units, layers = [], list(self)
        outputs = _run(units, images) if units else images
        for layer in layers:
            outputs = layer(outputs)
        return outputs


def _run(units: Sequence[Unit], images: torch.Tensor) -> torch.Tensor:
    """Return the outputs (N, C', H', W') of units for images (N, C, H, W)."""
    if torch.is_autocast_enabled("cpu"):
        images = images.to(torch.get_autocast_dtype("cpu"))
    threads = torch.get_num_threads()
    if len(images) % threads or len(images) < threads * MIN_EXAMPLES_OF_THREAD:
        threads = 1
    channels_last = images.permute(0, 2, 3, 1)
    rows = channels_last.reshape(threads, len(images) // threads, -1).mT.contiguous()
    maps = rows.view(threads, *channels_last.shape[1:], -1).permute(0, 3, 1, 2, 4)
    for unit in units:
        maps = unit(maps)
    return maps.flatten(1, 3).mT.contiguous().view(-1, *maps.shape[1:4])


def split_units(layers: Sequence[nn.Module], in_bf16: bool) -> tuple[list[Unit], list[nn.Module]]:
    """Return the units that `layers` begin with, and the layers after them."""
    max_channels = MAX_CHANNELS_BF16 if in_bf16 else MAX_CHANNELS_FP32
    units: list[Unit] = []
    rest = list(layers)
    while True:
        ahead = list(rest)
        conv = _take(ahead, _is_conv)
        norm = _take(ahead, _is_norm)
        before = _take(ahead, _is_activation)
        pool = _take(ahead, _is_pool)
        if conv is None or pool is None:
            return units, rest
        if conv.out_channels > max_channels[bool(units)]:
            return units, rest
        after = _take(ahead, _is_activation) if before is None else None
        if isinstance(pool, nn.MaxPool2d):
            # Activations never fall: the same maximum, of a quarter as many numbers.
            before, after = None, before or after
        units.append(Unit(conv, norm, before, pool, after))
        rest = ahead


def _take(layers: list[nn.Module], accepts: Callable[[nn.Module], TypeGuard[L]]) -> L | None:
    """Remove and return the first layer, or return None if it is not accepted."""
    if layers and accepts(first := layers[0]):
        del layers[0]
        return first
    return None


def _is_conv(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    if type(layer) is not nn.Conv2d or isinstance(layer.padding, str):
        return False
    is_square = all(len(set(pair)) == 1 for pair in (layer.kernel_size, layer.padding))
    settings = (layer.stride, layer.dilation, layer.groups, layer.padding_mode)
    return is_square and settings == ((1, 1), (1, 1), 1, "zeros")


def _is_norm(layer: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    if type(layer) is not nn.BatchNorm2d:
        return False
    return layer.affine and layer.track_running_stats and layer.momentum is not None


def _is_activation(layer: nn.Module) -> TypeGuard[nn.Module]:
    return type(layer) in IN_PLACE and not getattr(layer, "inplace", False)


def _is_pool(layer: nn.Module) -> TypeGuard[nn.MaxPool2d | nn.AvgPool2d]:
    if type(layer) is nn.MaxPool2d:
        is_plain = layer.dilation == 1 and not layer.return_indices
    elif type(layer) is nn.AvgPool2d:
        is_plain = layer.divisor_override is None
    else:
        return False
    sizes = (layer.kernel_size, layer.stride, layer.padding)
    return is_plain and sizes == (2, 2, 0) and not layer.ceil_mode


def use_batch_last(network: nn.Module, in_bf16: bool) -> None:
    """Compute the sequences of `network` that begin with units batch last."""
    for module in network.modules():
        if type(module) is nn.Sequential and split_units(list(module), in_bf16)[0]:
            module.__class__ = BatchLastSequential  # a subclass without more state


def uses_batch_last(network: nn.Module) -> bool:
    """Return whether a part of `network` is computed batch last."""
    return any(isinstance(module, BatchLastSequential) for module in network.modules())
