"""Batch normalization: each channel becomes mean 0 and variance 1, then a learned mean and scale.

X is (N, C), or (N, C, H, W), where all places of a map count alike. A channel has M = N or
M = N H W numbers x[i]. Each channel has its own weight g and bias b. The small number epsilon keeps
the root away from 0:

    mean        mu   = 1/M sum of x[i]
    variance    v    = 1/M sum of (x[i] - mu)^2
    normalized  h[i] = (x[i] - mu) r,    r = 1 / sqrt(v + epsilon)
    output      y[i] = g h[i] + b                       Y has the shape of X; g and b are (C)

The variance takes two passes: first mu, then the squares. The mean of x^2 less mu^2 takes one pass,
but it is a small difference of two large numbers wherever mu is large beside sqrt(v). Its digits
would be lost.

In evaluation an output must not depend on the other examples of the batch. There mu and v are
moving averages. Each training batch moves them by the momentum, which is usually 0.1. None stands
for 1/t in batch t, so that the averages are the means of all batches so far:

    moving mean      <- (1 - momentum) moving mean      + momentum mu
    moving variance  <- (1 - momentum) moving variance  + momentum v M / (M - 1)

v itself is biased. It takes the squares around the mean of the batch, which are on average smaller
than around the true mean, by the factor (M - 1) / M. The moving variance stands for all data, so it
is corrected. The variance that normalizes the batch is not, so that the variance of h is 1 (except
for epsilon). With M = 1 there is nothing to normalize by, which is an error. With M = 2, h is +-1
for every x unless epsilon is large beside v, so little information is left.

Backward, in training. Let dy[i] be the derivative of the loss with respect to y[i]. By y = g h + b,

    db = sum of dy[i]          dg = sum of dy[i] h[i]          dh[i] = g dy[i]

x[i] acts on the loss in three ways: on its own h[i], on every h[j] through v, and on every h[j]
through mu.

    dv    = sum of dh[i] (x[i] - mu) (-1/2) (v + epsilon)^(-3/2)     as dr/dv = -1/2 r^3
          = -1/2 r^2 sum of dh[i] h[i]
    dmu   = -r sum of dh[i] + dv (-2/M) sum of (x[i] - mu)           the last sum is 0
          = -r sum of dh[i]
    dx[i] = r dh[i] + dv 2/M (x[i] - mu) + dmu 1/M                   with x[i] - mu = h[i] / r:
          = r (dh[i] - 1/M sum of dh[j] - h[i] 1/M sum of dh[j] h[j])
          = g r (dy[i] - db/M - h[i] dg/M)

The two subtracted terms are the mean of dy and its part along h: shifting or stretching all x
together changes nothing. In evaluation mu and v are constants. The two terms are then missing, and
dx[i] = g r dy[i].

Cost for each of the C M numbers (r and other values of a channel are few and do not count):

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


def _list_batch_axes(tensor: torch.Tensor) -> list[int]:
    """Return all dimensions of (N, C, ...) except the channels."""
    return [0, *range(2, tensor.ndim)]


def _broadcast_channels(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return one value per channel, (C), as (1, C, 1, ...) with as many dimensions as `like`."""
    return values.view(1, -1, *[1] * (like.ndim - 2))


def _scale_and_shift(
    normalized: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor:
    """Return y = g h + b. Without a weight g is 1; without a bias b is 0."""
    if weight is None:
        outputs = normalized.clone()  # The next layer may change its inputs in place.
    else:
        outputs = normalized * _broadcast_channels(weight, normalized)
    return outputs if bias is None else outputs + _broadcast_channels(bias, outputs)


class NormalizeByBatch(Function):
    """Batch normalization in training.

    inputs (N, C, ...), weight (C) and bias (C) or None, epsilon
    -> outputs (N, C, ...), mean (C), biased variance (C)

    The mean and the variance are for the moving averages. No gradient flows through them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        epsilon: float,
    ) -> tuple[torch.Tensor, ...]:
        mean = inputs.mean(dim=_list_batch_axes(inputs))
        deviations = inputs - _broadcast_channels(mean, inputs)
        variance = (deviations * deviations).mean(dim=_list_batch_axes(inputs))
        r = 1 / torch.sqrt(variance + epsilon)
        normalized = deviations * _broadcast_channels(r, inputs)
        ctx.save_for_backward(normalized, r, weight)
        ctx.mark_non_differentiable(mean, variance)
        return _scale_and_shift(normalized, weight, bias), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, *_: torch.Tensor) -> Gradients:
        normalized, r, weight = ctx.saved_tensors
        wanted_inputs, wanted_weight, wanted_bias, _epsilon = ctx.needs_input_grad
        grad_bias = grad.sum(dim=_list_batch_axes(grad))
        grad_weight = (grad * normalized).sum(dim=_list_batch_axes(grad))
        grad_inputs = None
        if wanted_inputs:
            numbers = grad.numel() // len(r)
            along = normalized * _broadcast_channels(grad_weight / numbers, grad)
            scale = r if weight is None else weight * r
            centered = grad - _broadcast_channels(grad_bias / numbers, grad)
            grad_inputs = (centered - along) * _broadcast_channels(scale, grad)
        return (
            grad_inputs,
            grad_weight if wanted_weight else None,
            grad_bias if wanted_bias else None,
            None,
        )


class NormalizeByMovingAverages(Function):
    """Batch normalization in evaluation.

    inputs (N, C, ...), moving mean (C) and variance (C), weight (C) and bias (C) or None, epsilon
    -> outputs (N, C, ...)
    """

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
        normalized = (inputs - _broadcast_channels(mean, inputs)) * _broadcast_channels(r, inputs)
        ctx.save_for_backward(normalized, r, weight)
        return _scale_and_shift(normalized, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        normalized, r, weight = ctx.saved_tensors
        wanted_inputs, _mean, _variance, wanted_weight, wanted_bias, _epsilon = ctx.needs_input_grad
        grad_inputs = grad_weight = grad_bias = None
        if wanted_inputs:
            scale = r if weight is None else weight * r
            grad_inputs = grad * _broadcast_channels(scale, grad)
        if wanted_weight:
            grad_weight = (grad * normalized).sum(dim=_list_batch_axes(grad))
        if wanted_bias:
            grad_bias = grad.sum(dim=_list_batch_axes(grad))
        return grad_inputs, None, None, grad_weight, grad_bias, None


def _normalize(layer: nn.BatchNorm1d | nn.BatchNorm2d, inputs: torch.Tensor) -> torch.Tensor:
    """Return the outputs of a layer. In training, update its moving averages in place.

    Raises:
        ValueError: training with one value per channel, or inputs with the wrong number of axes.
    """
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
    """Move the averages of a layer towards the mean (C) and unbiased variance (C) of a batch."""
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
    """The layer of PyTorch for (N, C), with the same parameters and moving averages."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _normalize(self, inputs)


class BatchNorm2d(nn.BatchNorm2d):
    """The layer of PyTorch for (N, C, H, W), with the same parameters and moving averages."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _normalize(self, inputs)
