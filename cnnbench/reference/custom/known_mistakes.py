"""Layers with one mistake each, as operations of torch: op(x, *parameters) -> outputs.

Some have right outputs and a wrong gradient only: `detach` makes autograd take a part as constant.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Candidates", "list_layer_mistakes", "list_loss_mistakes"]

Operation = Callable[..., torch.Tensor]
Candidates = list[tuple[str, Operation]]  # a mistake in words, and the operation that makes it

ONE_SIDE = "the padding is on one side only: add pad rows above and below, pad columns on each side"
NO_STRIDE = "the stride is ignored: window i begins at row stride * i"


def list_layer_mistakes(layer: Any) -> Candidates:
    """Return the known mistakes of a layer that has the options of `layer`."""
    match layer:
        case nn.Conv2d():
            return _list_of_convolution(layer)
        case nn.Linear():
            return _list_of_linear(layer)
        case nn.MaxPool2d() | nn.AvgPool2d():
            return _list_of_pooling(layer)
        case nn.BatchNorm2d():
            return _list_of_batch_norm(layer)
        case nn.ReLU():
            return [
                ("negative numbers are passed on, too", lambda x: 1 * x),
                ("negative numbers get their absolute value", torch.abs),
                ("it is min(x, 0), not max(x, 0)", lambda x: x.clamp(max=0)),
            ]
        case nn.Sigmoid():
            return [
                ("the sign of the exponent is wrong: it is e^-x", lambda x: torch.sigmoid(-x)),
                ("the brackets are missing: it is 1 / (1 + e^-x)", lambda x: 1 + torch.exp(-x)),
                ("the factor (1 - y) is missing", lambda x: x * torch.sigmoid(x).detach()),
                ("the factor y is missing", lambda x: x * (1 - torch.sigmoid(x)).detach()),
                ("x is taken for y: the derivative is y (1 - y)", lambda x: x**2 / 2 - x**3 / 3),
            ]
        case nn.Tanh():
            return [
                ("the sign of the exponents is wrong", lambda x: -torch.tanh(x)),
                ("the derivative 1 - y^2 is missing", lambda x: 1 * x),
                (
                    "y is not squared: the derivative is 1 - y^2",
                    lambda x: x * (1 - torch.tanh(x)).detach(),
                ),
                ("x is taken for y: the derivative is 1 - y^2", lambda x: x - x**3 / 3),
            ]
    return []


def _shift_padding(x: torch.Tensor, padding: int, value: float = 0.0) -> list[torch.Tensor]:
    """Return images with all padding above and left, and with all of it below and right."""
    sides = (2 * padding, 0, 2 * padding, 0), (0, 2 * padding, 0, 2 * padding)
    return [functional.pad(x, side, value=value) for side in sides]


def _crop(outputs: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return outputs[:, :, : like.shape[2], : like.shape[3]]


def _list_of_convolution(layer: nn.Conv2d) -> Candidates:
    stride, padding = layer.stride[0], layer.padding[0]
    right = partial(functional.conv2d, stride=stride, padding=int(padding))

    def without_stride(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        outputs = functional.conv2d(x, weight, bias, padding=int(padding))
        return _crop(outputs, right(x, weight, bias))

    def shifted(
        side: int, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        return functional.conv2d(_shift_padding(x, int(padding))[side], weight, bias, stride)

    def replicated(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(x, (int(padding),) * 4, mode="replicate")
        return functional.conv2d(padded, weight, bias, stride)

    return [
        (
            "the kernel is transposed: its rows and columns are exchanged",
            lambda x, weight, bias: right(x, weight.mT, bias),
        ),
        (
            "the kernel is turned by 180 degrees: that is true convolution, "
            "and networks compute cross-correlation",
            lambda x, weight, bias: right(x, weight.flip(2, 3), bias),
        ),
        ("the bias is not added", lambda x, weight, bias: right(x, weight)),
        (NO_STRIDE, without_stride),
        (ONE_SIDE, partial(shifted, 0)),
        (ONE_SIDE, partial(shifted, 1)),
        ("the padding repeats the border: it must be zeros", replicated),
    ]


def _list_of_linear(layer: nn.Linear) -> Candidates:
    mistakes: Candidates = [("the bias is not added", lambda x, weight, bias: x @ weight.mT)]
    if layer.in_features == layer.out_features:
        sentence = "W is transposed: W is (outputs, inputs), so that y = x W^T + b"
        mistakes.append((sentence, lambda x, weight, bias: x @ weight + bias))
    return mistakes


def _list_of_pooling(layer: Any) -> Candidates:
    kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
    is_max = isinstance(layer, nn.MaxPool2d)
    right = functional.max_pool2d if is_max else functional.avg_pool2d
    other = functional.avg_pool2d if is_max else functional.max_pool2d
    fill = -float("inf") if is_max else 0.0

    def shifted(side: int, x: torch.Tensor) -> torch.Tensor:
        return right(_shift_padding(x, padding, fill)[side], kernel, stride)

    mistakes: Candidates = [
        (
            f"it computes the {'mean' if is_max else 'maximum'}",
            lambda x: other(x, kernel, stride, padding),
        ),
        (
            NO_STRIDE,
            lambda x: _crop(right(x, kernel, 1, padding), right(x, kernel, stride, padding)),
        ),
        (ONE_SIDE, partial(shifted, 0)),
        (ONE_SIDE, partial(shifted, 1)),
    ]
    if is_max:
        zeros = "the padding is 0: it must be -infinity, or it hides negative numbers"
        mistakes += [
            (zeros, lambda x: right(functional.pad(x, (padding,) * 4), kernel, stride)),
            ("it computes the minimum", lambda x: -right(-x, kernel, stride, padding)),
        ]
    else:
        counted = "the padding is left out of the count: a mean is the sum divided by size^2"
        mistakes.append((counted, _average_without_padding(layer)))
    return mistakes


def _average_without_padding(layer: nn.AvgPool2d) -> Operation:
    return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, count_include_pad=False)


def _list_of_batch_norm(layer: nn.BatchNorm2d) -> Candidates:
    axes, epsilon = (0, 2, 3), layer.eps

    def normalize(
        x: torch.Tensor,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        *,
        axes: tuple[int, ...] = axes,
        unbiased: bool = False,
        outside: bool = False,
        constants: tuple[str, ...] = (),
    ) -> torch.Tensor:
        mean = x.mean(axes, keepdim=True)
        mean = mean.detach() if "mean" in constants else mean
        variance = x.var(axes, correction=int(unbiased), keepdim=True)
        variance = variance.detach() if "variance" in constants else variance
        std = variance.sqrt() + epsilon if outside else (variance + epsilon).sqrt()
        return (x - mean) / std * gamma.view(-1, 1, 1) + beta.view(-1, 1, 1)

    constant = "taken as constant: it depends on every x of the channel"
    return [
        ("the variance is divided by M - 1: it must be M", partial(normalize, unbiased=True)),
        ("epsilon is added to the root: add it below", partial(normalize, outside=True)),
        (
            "each example is normalized by itself: mean and variance are over the batch, too",
            partial(normalize, axes=(2, 3)),
        ),
        (
            "each place is normalized by itself: mean and variance are over the places, too",
            partial(normalize, axes=(0,)),
        ),
        ("gamma is not multiplied", lambda x, gamma, beta: normalize(x, 0 * gamma + 1, beta)),
        ("beta is not added", lambda x, gamma, beta: normalize(x, gamma, 0 * beta)),
        (f"the variance is {constant}", partial(normalize, constants=("variance",))),
        (
            "mean and variance are taken as constants: they depend on every x of the channel",
            partial(normalize, constants=("mean", "variance")),
        ),
    ]


def list_loss_mistakes() -> Candidates:
    """Return the known mistakes of a cross-entropy: op(logits (N, K), targets (N, K)) -> loss."""

    def likelihood(probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -(targets * probabilities.log()).sum() / len(targets)

    def without_targets(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits.exp().sum(1).log().sum() / len(targets)

    return [
        (
            "the softmax is taken over the examples: take it over the classes, axis 1",
            lambda x, t: likelihood(x.softmax(0), t),
        ),
        (
            "1e-7 is added to the probabilities: compute log-softmax, which needs nothing added",
            lambda x, t: likelihood(x.softmax(1) + 1e-7, t),
        ),
        ("the softmax is taken twice", lambda x, t: likelihood(x.softmax(1).softmax(1), t)),
        ("t is not subtracted from the probabilities", without_targets),
    ]
