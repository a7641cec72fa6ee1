"""The reference implementation compared with torch and with numerical derivatives.

Three things are compared: the outputs, the gradients, and numerical derivatives that depend on
neither implementation. Each layer gets the same random inputs in both forms, so that a mistake
shows in the layer that makes it. The whole network shows that its layers fit together. Everything
is in float64.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from cnnbench.reference.custom.module import CustomModule
from cnnbench.reference.differentiation import numerical_gradient
from cnnbench.reference.swap import use_reference

__all__ = ["Differences", "compare", "compare_layer", "compare_network", "record_input_shapes"]

# A numerical derivative takes two calls of the operation, so only some are computed.
MAX_ENTRIES = 4  # of each tensor
MAX_TENSORS = 8  # of a network
NETWORK_STEP = 1e-7  # A smaller step crosses fewer kinks of the ReLUs of a network.
MIN_SCALE = 1e-3  # Lower limit of the scale of a gradient, as a share of the largest gradient.
TINY = 1e-300  # keeps divisors away from 0
SEED = 0

Operation = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Differences:
    """The largest differences, each as a share of the largest number in the compared tensor.

    Attributes:
        outputs: from the outputs of torch.
        gradients: from the gradients of autograd.
        numerical: from numerical derivatives.
    """

    outputs: float
    gradients: float
    numerical: float


def compare(
    reference: Operation,
    library: Operation,
    *tensors: torch.Tensor,
    max_tensors: int | None = None,
    h: float | None = None,
) -> Differences:
    """Compare two forms of an operation on the same float64 tensors.

    The gradients are those of a sum of the outputs with random weights.

    Args:
        reference: the operation of the reference implementation.
        library: the same operation of torch.
        tensors: the inputs of both; they are not changed.
        max_tensors: compute numerical derivatives by at most so many tensors (None: by all).
        h: step of the numerical derivatives (None: chosen for each number).
    """
    outputs, reference_inputs = _run_on_leaves(reference, tensors)
    expected, library_inputs = _run_on_leaves(library, tensors)
    weights = torch.randn_like(expected)
    # materialize_grads gives zeros to a weight that the operation does not use.
    gradients = torch.autograd.grad(outputs, reference_inputs, weights, materialize_grads=True)
    autograds = torch.autograd.grad(expected, library_inputs, weights, materialize_grads=True)
    # A gradient that is tiny beside the others is rounding: that of a bias before batch
    # normalization, for example. It is compared at the scale of the others.
    floor = max(MIN_SCALE * max(map(_max_abs, autograds)), TINY)
    scales = [max(_max_abs(gradient), floor) for gradient in autograds]

    def compare_numerically(index: int) -> float:
        """Return the largest difference of some entries of a gradient from numerical ones."""

        def weighted_sum(tensor: torch.Tensor) -> torch.Tensor:
            outputs = _run_seeded(reference, *tensors[:index], tensor, *tensors[index + 1 :])
            return (outputs * weights).sum()

        gradient = gradients[index]
        entries = torch.randperm(gradient.numel())[:MAX_ENTRIES].tolist()
        estimates = numerical_gradient(weighted_sum, tensors[index].detach().clone(), entries, h)
        return _max_abs(estimates - gradient.flatten()[entries]) / scales[index]

    stride = -(-len(tensors) // max_tensors) if max_tensors else 1
    with torch.no_grad():
        numerical = max(compare_numerically(index) for index in range(0, len(tensors), stride))
    differences = [
        _max_abs(gradient - autograd) / scale
        for gradient, autograd, scale in zip(gradients, autograds, scales, strict=True)
    ]
    return Differences(_compare_outputs(outputs, expected), max(differences), numerical)


def record_input_shapes(network: nn.Module, images: torch.Tensor) -> dict[str, torch.Size]:
    """Return the shape of the first input of each innermost layer, by name, in the order of calls.

    Args:
        network: the network to call once, without gradients.
        images: its inputs (N, C, H, W).
    """
    shapes: dict[str, torch.Size] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if inputs and isinstance(inputs[0], torch.Tensor):
                shapes.setdefault(name, inputs[0].shape)

        return hook

    hooks = []
    for name, layer in network.named_modules():
        # An nn.Sequential without children is an empty container, not a layer.
        if not (list(layer.children()) or isinstance(layer, nn.Sequential)):
            hooks.append(layer.register_forward_pre_hook(record(name)))
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return shapes


def compare_layer(
    layer: nn.Module,
    shape: Sequence[int],
    device: torch.device,
    custom: CustomModule | None = None,
) -> Differences:
    """Compare a float64 layer with its twin, perhaps a custom one, on random inputs of `shape`.

    If the layer has buffers, such as moving averages, they are compared after one step of training,
    and the layer is also compared in evaluation.
    """
    reference, library = copy.deepcopy(layer).train(), copy.deepcopy(layer).train()
    use_reference(reference, custom)
    parameters = dict(layer.named_parameters())
    inputs = torch.randn(*shape, dtype=torch.float64, device=device)
    with torch.no_grad():
        _run_seeded(reference, inputs)
        _run_seeded(library, inputs)
    outputs = [
        _compare_outputs(buffer, library_buffer)
        for buffer, library_buffer in zip(reference.buffers(), library.buffers(), strict=True)
    ]
    modes = (True, False) if outputs else (True,)
    found = []
    for training in modes:
        operation = _to_operation(copy.deepcopy(reference).train(training), parameters)
        expected = _to_operation(copy.deepcopy(library).train(training), parameters)
        found.append(compare(operation, expected, inputs, *parameters.values()))
    outputs += [differences.outputs for differences in found]
    return Differences(
        max(outputs),
        max(differences.gradients for differences in found),
        max(differences.numerical for differences in found),
    )


def compare_network(
    network: nn.Module, images: torch.Tensor, custom: CustomModule | None = None
) -> tuple[Differences, Differences]:
    """Compare a float64 network with its reference implementation on images (N, C, H, W).

    The gradients are those of the logits with respect to the images and all weights.

    Returns:
        The differences of the reference implementation from the network, and the differences of the
        network from itself when the images are rounded another way. The second show how far
        rounding can go: batch normalization of few numbers makes rounding large, and in a deep
        network a step may cross the kink of a ReLU.
    """
    reference_network = copy.deepcopy(network)
    use_reference(reference_network, custom)
    parameters = dict(network.named_parameters())
    library = _to_operation(network, parameters)

    def rounded(inputs: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return library(inputs * (1 + torch.finfo(inputs.dtype).eps), *values)

    tensors = images, *parameters.values()
    differences, rounding = (
        compare(operation, library, *tensors, max_tensors=MAX_TENSORS, h=NETWORK_STEP)
        for operation in (_to_operation(reference_network, parameters), rounded)
    )
    return differences, rounding


def _to_operation(network: nn.Module, parameters: dict[str, nn.Parameter]) -> Operation:
    """Return the network as a function of its inputs and its parameters."""

    def operation(inputs: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor | tuple[torch.Tensor, ...]
        outputs = functional_call(network, dict(zip(parameters, values, strict=True)), (inputs,))
        if isinstance(outputs, tuple):  # The network has auxiliary classifiers.
            return torch.cat(outputs, dim=1)
        return outputs

    return operation


def _run_on_leaves(
    operation: Operation, tensors: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the outputs of an operation on copies of `tensors`, and the copies: leaf tensors."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    return _run_seeded(operation, *leaves), leaves


def _run_seeded(operation: Operation, *tensors: torch.Tensor) -> torch.Tensor:
    """Return the outputs of an operation, with the same random numbers in each call.

    Dropout draws the same mask in both forms, for example.
    """
    with torch.random.fork_rng([tensors[0].device] if tensors[0].is_cuda else []):
        torch.manual_seed(SEED)
        inputs, *others = tensors
        return operation(inputs.clone(), *others)  # An operation in place may change its inputs.


def _compare_outputs(outputs: torch.Tensor, expected: torch.Tensor) -> float:
    return _max_abs(outputs - expected) / max(_max_abs(expected), TINY)


def _max_abs(tensor: torch.Tensor) -> float:
    return tensor.abs().max().item()
