"""What is computed by hand, against torch: outputs, gradients, and numerical derivatives that trust neither.

Each layer is given the same random inputs in both forms, so that a mistake shows where it is made; the network as a
whole shows that its layers fit together. Everything is in float64.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from cnnbench.reference.differentiation import numerical_gradient
from cnnbench.reference.swap import use_reference

__all__ = ["Differences", "compare", "compare_layer", "compare_network", "record_input_shapes"]

ENTRIES = 4  # of each tensor, whose derivatives are taken numerically: two calls for each
MOST_TENSORS = 8  # of a network, likewise
STEP = 1e-7  # of a network: the smaller, the fewer kinks of its ReLUs are crossed
LEAST = 1e-3  # of the largest gradient of all: what others are compared with at the least
TINY = 1e-300
SEED = 0

Operation = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Differences:
    """The largest differences, each as a share of the largest number of what is compared.

    Those by hand are compared with torch's outputs, with autograd's gradients, and with numerical derivatives.
    """

    outputs: float
    gradients: float
    numerical: float


def compare(
    by_hand: Operation,
    library: Operation,
    *tensors: torch.Tensor,
    most: int | None = None,
    h: float | None = None,
) -> Differences:
    """Two forms of an operation on the same float64 tensors, with the gradients of a random mixture of its outputs.

    The numerical derivatives are those of no more than `most` of the tensors, by steps of `h`.
    """
    ours, theirs = ([each.detach().clone().requires_grad_() for each in tensors] for _ in range(2))
    outputs, expected = _seeded(by_hand, *ours), _seeded(library, *theirs)
    mixture = torch.randn_like(expected)
    gradients, autograds = (
        torch.autograd.grad(
            out, given, mixture, materialize_grads=True
        )  # of a weight that is not used: zeros
        for out, given in ((outputs, ours), (expected, theirs))
    )
    # A gradient that is next to nothing beside the others, as of a bias before batch normalisation, is rounding.
    floor = max(LEAST * max(map(_largest, autograds)), TINY)
    scales = [max(_largest(each), floor) for each in autograds]

    def numerically(index: int) -> float:
        """How far some entries of a gradient are from what small steps of the tensor say."""

        def mixed(tensor: torch.Tensor) -> torch.Tensor:
            return (
                _seeded(by_hand, *tensors[:index], tensor, *tensors[index + 1 :]) * mixture
            ).sum()

        gradient = gradients[index]
        entries = torch.randperm(gradient.numel())[:ENTRIES].tolist()
        estimates = numerical_gradient(mixed, tensors[index].detach().clone(), entries, h)
        return _largest(estimates - gradient.flatten()[entries]) / scales[index]

    every = -(-len(tensors) // most) if most else 1
    with torch.no_grad():
        numerical = max(numerically(index) for index in range(0, len(tensors), every))
    differences = [
        _largest(a - b) / scale for a, b, scale in zip(gradients, autograds, scales, strict=True)
    ]
    return Differences(
        _largest(outputs - expected) / max(_largest(expected), TINY), max(differences), numerical
    )


def record_input_shapes(network: nn.Module, images: torch.Tensor) -> dict[str, torch.Size]:
    """The shape of what each innermost layer is given first, by its name, in the order of the calls."""
    shapes: dict[str, torch.Size] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def see(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if inputs and isinstance(inputs[0], torch.Tensor):
                shapes.setdefault(name, inputs[0].shape)

        return see

    innermost = [
        (name, layer)
        for name, layer in network.named_modules()
        if not list(layer.children())
        and not isinstance(layer, nn.Sequential)  # one with nothing in it
    ]
    hooks = [layer.register_forward_pre_hook(record(name)) for name, layer in innermost]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return shapes


def compare_layer(layer: nn.Module, shape: Sequence[int], device: torch.device) -> Differences:
    """A layer of a network, in float64, and its twin, on random inputs of `shape`.

    One that remembers something, such as moving averages, is compared in that and in evaluation too.
    """
    by_hand, library = copy.deepcopy(layer).train(), copy.deepcopy(layer).train()
    use_reference(by_hand)
    parameters = dict(layer.named_parameters())
    inputs = torch.randn(*shape, dtype=torch.float64, device=device)
    with torch.no_grad():
        _seeded(by_hand, inputs), _seeded(library, inputs)
    remembered = [
        _largest(a - b) / max(_largest(b), TINY)
        for a, b in zip(by_hand.buffers(), library.buffers(), strict=True)
    ]
    found = []
    for training in (True, False) if remembered else (True,):
        ours, theirs = (
            _of(copy.deepcopy(each).train(training), parameters) for each in (by_hand, library)
        )
        found.append(compare(ours, theirs, inputs, *parameters.values()))
    return Differences(
        max([*remembered, *(each.outputs for each in found)]),
        max(each.gradients for each in found),
        max(each.numerical for each in found),
    )


def compare_network(network: nn.Module, images: torch.Tensor) -> tuple[Differences, Differences]:
    """A network, in float64, and what it is by hand, on images (N, C, H, W): by its logits and all of its weights.

    And the network and itself, where its images are rounded another way: what a difference of the first is worth. Batch
    normalisation of few numbers makes rounding large, and in a deep network a step may cross the kink of a ReLU.
    """
    reference = copy.deepcopy(network)
    use_reference(reference)
    parameters = dict(network.named_parameters())
    ours, library, tensors = (
        _of(reference, parameters),
        _of(network, parameters),
        (images, *parameters.values()),
    )

    def rounded(inputs: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return library(inputs * (1 + torch.finfo(inputs.dtype).eps), *values)

    by_hand, itself = (
        compare(each, library, *tensors, most=MOST_TENSORS, h=STEP) for each in (ours, rounded)
    )
    return by_hand, itself


def _of(network: nn.Module, parameters: dict[str, nn.Parameter]) -> Operation:
    """The network as a function of its inputs and of its parameters."""

    def operation(inputs: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(network, dict(zip(parameters, values, strict=True)), (inputs,))
        return (
            torch.cat(outputs, dim=1) if isinstance(outputs, tuple) else outputs
        )  # those of auxiliary classifiers

    return operation


def _seeded(operation: Operation, *tensors: torch.Tensor) -> torch.Tensor:
    """The outputs of an operation that draws the same random numbers, such as those of dropout, each time."""
    with torch.random.fork_rng([tensors[0].device] if tensors[0].is_cuda else []):
        torch.manual_seed(SEED)
        inputs, *others = tensors
        return operation(inputs.clone(), *others)  # which an operation in place may change


def _largest(tensor: torch.Tensor) -> float:
    return tensor.abs().max().item()
