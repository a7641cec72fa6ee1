"""Mistakes in the user's layers and loss: which known one explains a difference from PyTorch.

A layer is run on small float64 inputs. If its outputs or gradients differ from PyTorch's, they are
compared with those of the known mistakes, then with multiples of the right numbers.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from cnnbench.reference.convolution import col2im, im2col
from cnnbench.reference.custom.call import CustomCall
from cnnbench.reference.custom.differences import (
    differentiate,
    explain_difference,
    find_candidate,
    matches,
)
from cnnbench.reference.custom.known_mistakes import (
    Candidates,
    Operation,
    list_layer_mistakes,
    list_loss_mistakes,
)
from cnnbench.reference.custom.layers import find_custom_twin
from cnnbench.reference.custom.module import OPTIMIZERS, CustomCodeError, CustomModule
from cnnbench.reference.custom.optimizer_mistakes import compare_optimizer
from cnnbench.reference.losses import to_probabilities

__all__ = ["CLASSES", "DROPPED", "EXAMPLES", "PROBES", "Probe", "explain"]

SEED = 0
DROPPED = 0.3  # p of the dropout that is checked
MAX_SHARE_ERROR = 0.03  # 6 standard deviations of the share of 10,000 numbers
EXAMPLES, CLASSES = 3, 5  # N and K of the logits
LARGE = 1000.0  # a logit whose exponential overflows

SHARES_KEPT = (
    (DROPPED, "p is the share to drop, not the share to keep"),
    (0.382, "randn draws from the normal distribution: rand draws from 0 to 1"),  # P(randn > p)
)


@dataclass(frozen=True)
class Probe:
    """A layer that shows mistakes, and the shape of its inputs."""

    title: str
    layer: nn.Module
    shape: tuple[int, ...]


def _make_probes() -> dict[str, list[Probe]]:
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        norm = nn.BatchNorm2d(2, momentum=0.2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        probes = [
            Probe("kernel 3", nn.Conv2d(2, 4, 3), (EXAMPLES, 2, 6, 5)),
            Probe("stride 2, pad 1", nn.Conv2d(2, 4, 3, 2, 1), (EXAMPLES, 2, 7, 6)),
            Probe("4 to 4", nn.Linear(4, 4), (EXAMPLES, 4)),
            Probe("5 to 2", nn.Linear(5, 2), (EXAMPLES, 5)),
            Probe("size 2", nn.MaxPool2d(2), (EXAMPLES, 2, 6, 4)),
            Probe("size 3, stride 2, pad 1", nn.MaxPool2d(3, 2, 1), (EXAMPLES, 2, 7, 5)),
            Probe("size 2", nn.AvgPool2d(2), (EXAMPLES, 2, 6, 4)),
            Probe("size 3, stride 2, pad 1", nn.AvgPool2d(3, 2, 1), (EXAMPLES, 2, 7, 5)),
            Probe("2 channels", norm, (EXAMPLES, 2, 5, 4)),
            Probe(f"p = {DROPPED}", nn.Dropout(DROPPED), (100, 100)),
            *(Probe("30 numbers", layer, (EXAMPLES, 10)) for layer in ACTIVATIONS),
        ]
    by_kind: dict[str, list[Probe]] = {}
    for probe in probes:
        by_kind.setdefault(type(probe.layer.double()).__name__, []).append(probe)
    return by_kind


ACTIVATIONS = (nn.ReLU(), nn.Sigmoid(), nn.Tanh())
PROBES = _make_probes()


def explain(custom: CustomModule, kind: str) -> list[str]:
    """Return a sentence for each mistake of a class of the user; none if it is right.

    Raises:
        ConfigError: a call took longer than the time limit.
    """
    checks = {"CrossEntropyLoss": _explain_loss, "Dropout": _explain_dropout}
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        try:
            if kind in OPTIMIZERS:
                found = list(filter(None, [compare_optimizer(custom, kind)[1]]))
            elif kind in checks:
                found = list(checks[kind](custom))
            else:
                by_probe = (list(_explain_layer(custom, probe)) for probe in PROBES[kind])
                found = next(filter(None, by_probe), [])  # The next probes show it again.
        except CustomCodeError as error:
            found = [str(error)]
    return found


def _explain_layer(custom: CustomModule, probe: Probe) -> Iterator[str]:
    """Yield the mistake in the outputs of a layer, or else those in its gradients."""
    layer, kind = copy.deepcopy(probe.layer), type(probe.layer).__name__
    inputs = torch.randn(*probe.shape, dtype=torch.float64)
    names = dict(layer.named_parameters())
    tensors = [inputs, *names.values()]

    def library(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor
        outputs = functional_call(copy.deepcopy(layer), dict(zip(names, values, strict=True)), (x,))
        return outputs

    dout = torch.randn_like(library(*tensors))
    expected = differentiate(library, tensors, dout)
    candidates, counts = list_layer_mistakes(layer), _count(layer, inputs)
    call, arrays = _prepare(custom, layer, inputs)
    outputs = call.forward(inputs, arrays)
    if not matches(outputs, expected[0]):
        reason = find_candidate(candidates, tensors, dout, 0, outputs)
        yield f"{kind}.forward: {reason or explain_difference(outputs, expected[0], counts)}."
        return
    gradients = call.backward(dout)
    for index, name in enumerate(("x", *call.names)):
        found, right = gradients[index], expected[index + 1]
        if matches(found, right):
            continue
        reason = (
            _find_gradient_mistake(library, tensors, dout, index + 1, found)
            or find_candidate(candidates, tensors, dout, index + 1, found)
            or explain_difference(found, right, counts)
        )
        if index == 0 and isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            reason = _find_overlap(layer, inputs, found, right) or reason
        yield f"{kind}.backward, d{name}: {reason}."
    if kind == "BatchNorm2d":
        yield from _explain_running_values(custom, layer, inputs)


def _prepare(
    custom: CustomModule, layer: nn.Module, inputs: torch.Tensor
) -> tuple[CustomCall, tuple[torch.Tensor, ...]]:
    """Return the call of the user's class in place of `layer`, and the arrays of its weights."""
    twin: Any = copy.deepcopy(layer)
    twin.__class__ = find_custom_twin(layer, custom)
    arrays = tuple(array.detach() for array in twin.weights())
    return twin.prepare(inputs), arrays


def _explain_running_values(
    custom: CustomModule, layer: nn.Module, inputs: torch.Tensor
) -> Iterator[str]:
    """Yield the mistakes in the moving averages of batch normalization and in its evaluation."""
    twin: Any = copy.deepcopy(layer)
    twin.__class__ = find_custom_twin(layer, custom)
    library: Any = copy.deepcopy(layer)
    with torch.no_grad():
        library(inputs)
        twin(inputs)
        momentum = library.momentum
        mean, variance = inputs.mean((0, 2, 3)), inputs.var((0, 2, 3))
        biased = inputs.var((0, 2, 3), correction=0)
        reversed_momentum = "the momentum is reversed: it is the share of the new batch"
        new_mean, new_variance = (1 - momentum) * mean, momentum + (1 - momentum) * variance
        mistakes = {
            "running_mean": [(new_mean, reversed_momentum)],
            "running_var": [
                (new_variance, reversed_momentum),
                (
                    (1 - momentum) + momentum * biased,
                    "it is moved by the variance of the batch: multiply it by M / (M - 1)",
                ),
            ],
        }
        for name, candidates in mistakes.items():
            found, right, initial = (getattr(one, name) for one in (twin, library, layer))
            if matches(found, right):
                continue
            if matches(found, initial):
                candidates = [(found, "it is not changed in training")]
            reasons = [sentence for value, sentence in candidates if matches(found, value)]
            yield f"BatchNorm2d.forward, {name}: {[*reasons, explain_difference(found, right)][0]}."
            return
        outputs, right = twin.eval()(inputs), library.eval()(inputs)
        if not matches(outputs, right):
            reason = explain_difference(outputs, right)
            if matches(outputs, library.train()(inputs)):
                reason = "it uses mean and variance of the batch: use the running ones"
            yield f"BatchNorm2d.forward in evaluation: {reason}."


def _explain_dropout(custom: CustomModule) -> Iterator[str]:
    """Yield the mistakes of dropout in training, where its mask is random, and in evaluation."""
    (probe,) = PROBES["Dropout"]
    layer: Any = copy.deepcopy(probe.layer)
    layer.__class__ = find_custom_twin(layer, custom)
    inputs = torch.randn(*probe.shape, dtype=torch.float64).requires_grad_()
    outputs, again = layer(inputs), layer(inputs).detach()
    kept = (outputs != 0).double()
    share = float(kept.mean())
    scaled = (inputs * kept / (1 - DROPPED)).detach()
    if abs(share - (1 - DROPPED)) > MAX_SHARE_ERROR:
        known = [text for value, text in SHARES_KEPT if abs(share - value) <= MAX_SHARE_ERROR]
        reason = known[0] if known else "each number is dropped with probability p"
        yield f"Dropout.forward keeps {share:.0%} of the numbers with p = {DROPPED}: {reason}."
        return
    if matches(outputs.detach(), again):
        yield "Dropout.forward: the mask is the same in each call."
        return
    if not matches(outputs.detach(), scaled):
        reason = explain_difference(outputs.detach(), scaled)
        if matches(outputs.detach(), scaled * (1 - DROPPED)):
            reason = "the numbers that are kept are not divided by 1 - p"
        yield f"Dropout.forward: {reason}."
        return
    dout = torch.randn_like(scaled)
    (found,) = torch.autograd.grad(outputs, inputs, dout)
    right = (dout * kept / (1 - DROPPED)).detach()
    if not matches(found, right):
        reason = explain_difference(found, right)
        if matches(found, dout):
            reason = "the mask of forward is not used"
        elif matches(found, right * (1 - DROPPED)):
            reason = "it is not divided by 1 - p"
        yield f"Dropout.backward: {reason}."
    in_evaluation = layer.eval()(inputs).detach()
    if not matches(in_evaluation, inputs.detach()):
        yield "Dropout.forward in evaluation: it must return x, as training divides by 1 - p."


def _explain_loss(custom: CustomModule) -> Iterator[str]:
    """Yield the mistakes of the cross-entropy, also for logits whose exponential overflows."""
    logits = torch.randn(EXAMPLES, CLASSES, dtype=torch.float64)
    labels = torch.arange(EXAMPLES)
    targets = to_probabilities(labels, like=logits)
    dout = torch.ones((), dtype=torch.float64)
    counts = {"N": EXAMPLES, "K": CLASSES, "N K": EXAMPLES * CLASSES}

    def run(logits: torch.Tensor) -> tuple[CustomCall, torch.Tensor, list[torch.Tensor]]:
        call = CustomCall(custom, "CrossEntropyLoss")
        call.extra = (call.to_array(targets),)
        right = differentiate(lambda x: functional.cross_entropy(x, labels), [logits], dout)
        return call, call.forward(logits, ()), right

    call, outputs, right = run(logits)
    candidates: Candidates = [
        (sentence, lambda x, operation=operation: operation(x, targets))
        for sentence, operation in list_loss_mistakes()
    ]
    if not matches(outputs, right[0]):
        reason = find_candidate(candidates, [logits], dout, 0, outputs)
        reason = reason or explain_difference(outputs, right[0], counts)
        yield f"CrossEntropyLoss.forward: {reason}."
        return
    (found,) = call.backward(dout)
    if not matches(found, right[1]):
        reason = find_candidate(candidates, [logits], dout, 1, found)
        reason = reason or explain_difference(found, right[1], counts)
        yield f"CrossEntropyLoss.backward: {reason}."
        return
    call, outputs, right = run(logits + LARGE)
    if not matches(outputs, right[0]) or not matches(call.backward(dout)[0], right[1]):
        yield (
            f"CrossEntropyLoss.forward: the exponential of logits of {LARGE:.0f} overflows: "
            "subtract the largest logit of each row from the row."
        )


def _find_gradient_mistake(
    operation: Operation,
    tensors: Sequence[torch.Tensor],
    dout: torch.Tensor,
    index: int,
    found: torch.Tensor,
) -> str | None:
    """Return a mistake that a gradient of any layer may have."""
    right = differentiate(operation, tensors, dout)[index]
    last = torch.zeros_like(dout)
    last[-1] = dout[-1]
    if index > 1 and matches(found, differentiate(operation, tensors, last)[index]):
        return "only the last example counts: add the gradients of all, with +="
    if index > 1 and right.ndim > 1 and right.shape == right.mT.shape and matches(found, right.mT):
        return "it is transposed"
    if found.shape == dout.shape and matches(found * dout, right):
        return "it is not multiplied by dout: the chain rule is missing"
    return None


def _find_overlap(
    layer: Any, inputs: torch.Tensor, found: torch.Tensor, right: torch.Tensor
) -> str | None:
    """Return the mistake if a gradient is wrong only for the pixels of several windows."""
    sizes = layer.kernel_size, layer.stride, layer.padding
    kernel, stride, (down, across) = map(_to_pair, sizes)
    height, width = inputs.shape[2:]
    padded = (height + 2 * down, width + 2 * across)
    ones = inputs.new_ones(*inputs.shape[:2], *padded)
    windows = col2im(im2col(ones, kernel, stride), padded, stride)
    once = windows[:, :, down : down + height, across : across + width] <= 1
    if bool(once.all()) or not matches(found * once, right * once):
        return None
    return "where windows overlap, the gradients must be added: dx[...] += ..."


def _to_pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _count(layer: Any, inputs: torch.Tensor) -> dict[str, int]:
    """Return the numbers that a factor may be: of examples, and of pixels in a window."""
    counts = {"N": len(inputs)}
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        counts["size^2"] = math.prod(_to_pair(layer.kernel_size))
    if isinstance(layer, nn.BatchNorm2d):
        counts["M"] = inputs.numel() // inputs.shape[1]
    return counts
