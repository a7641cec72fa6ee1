"""Batch normalisation: each channel shifted and scaled to mean 0 and variance 1, then to a mean and scale it learns.

X (N, C), or (N, C, H, W) with all places of a map counted alike: a channel has M = N or M = N H W numbers x[i]. For
each channel by itself, with its weight g, its bias b, and a small epsilon that keeps the root away from 0:

    mean        mu   = 1/M sum of x[i]
    variance    v    = 1/M sum of (x[i] - mu)^2
    normalised  h[i] = (x[i] - mu) r,    r = 1 / sqrt(v + epsilon)
    output      y[i] = g h[i] + b                                     Y has the shape of X; g and b are (C)

The variance is taken in two passes, first mu, then the squares. In one, as the mean of x^2 less mu^2, it would be a
small difference of two large numbers wherever mu is large beside sqrt(v), and its digits would be lost.

In evaluation an output must not depend on what else is in the batch. There mu and v are moving averages, which each
batch of the training moves part of the way, by the momentum (0.1 as a rule; None is 1/t for batch t, which makes them
the means of all batches so far):

    moving mean      <- (1 - momentum) moving mean      + momentum mu
    moving variance  <- (1 - momentum) moving variance  + momentum v M / (M - 1)

v itself is biased: the squares of deviations from the batch's own mean are on average smaller than of those from the
true one, by the factor (M - 1) / M. What stands for all data is freed of that; what normalises the batch is not, so
that the variance of h is 1 (but for epsilon). With M = 1 there is nothing to normalise by, which is an error. With
M = 2, h is +-1 whatever x is, unless epsilon is large beside v: little is left of it.

Backward, in training. Let dy[i] be the derivative of the loss with respect to y[i]. By y = g h + b,

    db = sum of dy[i]          dg = sum of dy[i] h[i]          dh[i] = g dy[i]

x[i] acts on the loss in three ways: on its own h[i], on all of them through v, and on all of them through mu.

    dv    = sum of dh[i] (x[i] - mu) (-1/2) (v + epsilon)^(-3/2)       as dr/dv = -1/2 r^3
          = -1/2 r^2 sum of dh[i] h[i]
    dmu   = -r sum of dh[i] + dv (-2/M) sum of (x[i] - mu)             the last sum is 0
          = -r sum of dh[i]
    dx[i] = r dh[i] + dv 2/M (x[i] - mu) + dmu 1/M                     with x[i] - mu = h[i] / r:
          = r (dh[i] - 1/M sum of dh[j] - h[i] 1/M sum of dh[j] h[j])
          = g r (dy[i] - db/M - h[i] dg/M)

What is taken off dy is its mean, and its part along h: to shift or to stretch all x together changes nothing. In
evaluation mu and v are constants, those two terms are missing, and dx[i] = g r dy[i].

Cost for each of the C M numbers (r and the like are a few for each channel):

                    forward                                     backward
    training        3 multiplications, 4 additions              3 multiplications, 4 additions
    evaluation      2 multiplications, 2 additions              2 multiplications, 2 additions
"""

from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["BatchNorm1d", "BatchNorm2d", "NormalizeByBatch", "NormalizeByMovingAverages"]

Gradients = tuple[torch.Tensor | None, ...]


def _axes(tensor: torch.Tensor) -> list[int]:
    """All dimensions of (N, C, ...) but the channels."""
    return [0, *range(2, tensor.ndim)]


def _per_channel(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One value for each channel, (C), as (1, C, 1, 1) or as many dimensions as `like` has."""
    return values.view(1, -1, *[1] * (like.ndim - 2))


def _scaled(
    normalised: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor:
    """y = g h + b; without a weight g is 1, without a bias b is 0."""
    outputs = (
        normalised.clone() if weight is None else normalised * _per_channel(weight, normalised)
    )
    return outputs if bias is None else outputs + _per_channel(bias, outputs)


class NormalizeByBatch(Function):
    """inputs (N, C, ...), weight (C) and bias (C) or None, epsilon to outputs (N, C, ...), mean (C), variance (C).

    The mean and the variance, the biased one, are for the moving averages: no gradient comes back through them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        epsilon: float,
    ) -> tuple[torch.Tensor, ...]:
        mean = inputs.mean(dim=_axes(inputs))
        deviations = inputs - _per_channel(mean, inputs)
        variance = (deviations * deviations).mean(dim=_axes(inputs))
        r = 1 / torch.sqrt(variance + epsilon)
        normalised = deviations * _per_channel(r, inputs)
        ctx.save_for_backward(normalised, r, weight)
        ctx.mark_non_differentiable(mean, variance)
        return _scaled(normalised, weight, bias), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, *_: torch.Tensor) -> Gradients:
        normalised, r, weight = ctx.saved_tensors
        wanted_inputs, wanted_weight, wanted_bias, _epsilon = ctx.needs_input_grad
        grad_bias = grad.sum(dim=_axes(grad))
        grad_weight = (grad * normalised).sum(dim=_axes(grad))
        grad_inputs = None
        if wanted_inputs:
            numbers = grad.numel() // len(r)
            along = normalised * _per_channel(grad_weight / numbers, grad)
            scale = r if weight is None else weight * r
            grad_inputs = (grad - _per_channel(grad_bias / numbers, grad) - along) * _per_channel(
                scale, grad
            )
        return (
            grad_inputs,
            grad_weight if wanted_weight else None,
            grad_bias if wanted_bias else None,
            None,
        )


class NormalizeByMovingAverages(Function):
    """inputs (N, C, ...), moving mean and variance (C), weight (C) and bias (C) or None, epsilon to outputs."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        epsilon: float,
    ) -> torch.Tensor:
        r = 1 / torch.sqrt(variance + epsilon)
        normalised = (inputs - _per_channel(mean, inputs)) * _per_channel(r, inputs)
        ctx.save_for_backward(normalised, r, weight)
        return _scaled(normalised, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        normalised, r, weight = ctx.saved_tensors
        wanted_inputs, _mean, _variance, wanted_weight, wanted_bias, _epsilon = ctx.needs_input_grad
        scale = r if weight is None else weight * r
        return (
            grad * _per_channel(scale, grad) if wanted_inputs else None,
            None,
            None,
            (grad * normalised).sum(dim=_axes(grad)) if wanted_weight else None,
            grad.sum(dim=_axes(grad)) if wanted_bias else None,
            None,
        )


def _outputs(layer: nn.BatchNorm1d | nn.BatchNorm2d, inputs: torch.Tensor) -> torch.Tensor:
    """What a layer computes; in training its moving averages are moved, in place."""
    layer._check_input_dim(inputs)
    outputs: torch.Tensor
    if not layer.training and layer.running_mean is not None:
        outputs = NormalizeByMovingAverages.apply(
            inputs, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps
        )
        return outputs
    numbers = inputs.numel() // inputs.shape[1]
    if numbers == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {inputs.size()}"
        )
    outputs, mean, variance = NormalizeByBatch.apply(inputs, layer.weight, layer.bias, layer.eps)
    if layer.track_running_stats:
        _update_moving_averages(layer, mean, variance * (numbers / (numbers - 1)))
    return outputs


def _update_moving_averages(
    layer: nn.BatchNorm1d | nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor
) -> None:
    """Moves the averages of a layer towards the mean (C) and the unbiased variance (C) of a batch."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    momentum: float | torch.Tensor | None = layer.momentum
    if momentum is None:
        momentum = 1 / layer.num_batches_tracked.to(mean.dtype)
    layer.running_mean.mul_(1 - momentum).add_(momentum * mean)
    layer.running_var.mul_(1 - momentum).add_(momentum * variance)


class BatchNorm1d(nn.BatchNorm1d):
    """The layer of (N, C), with its parameters and moving averages, computed by the operations above."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _outputs(self, inputs)


class BatchNorm2d(nn.BatchNorm2d):
    """Likewise of (N, C, H, W)."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _outputs(self, inputs)
