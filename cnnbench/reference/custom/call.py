"""One call of a user's layer or loss: arrays in and out, with their shapes checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cnnbench.reference.custom.module import CustomCodeError, CustomModule

__all__ = ["LOSS", "CallFunction", "CustomCall", "Shape", "explain_shape"]

Shape = tuple[int, ...]

LOSS = "CrossEntropyLoss"


@dataclass
class CustomCall:
    """One call of a user's layer: forward, then perhaps backward.

    Attributes:
        custom: the user's file.
        kind: the name of the class.
        names: those of the parameters. Their gradients are attributes with a d in front.
        options: the arguments of the class after the parameters.
        extra: the arguments of forward after the inputs.
        shape: that of the outputs.
        wrong_shapes: shapes of the outputs that come from a known mistake, and the mistake.
    """

    custom: CustomModule
    kind: str
    names: tuple[str, ...] = ()
    options: tuple[Any, ...] = ()
    extra: tuple[Any, ...] = ()
    shape: Shape = ()
    wrong_shapes: Mapping[Shape, str] = field(default_factory=dict)
    instance: Any = None

    def forward(self, inputs: torch.Tensor, parameters: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the outputs of inputs of any shape, with their dtype and on their device."""
        self.inputs, self.parameters = inputs, parameters
        arrays = [self.to_array(tensor) for tensor in (inputs, *parameters)]
        self.instance = self.custom.make(self.kind, *arrays[1:], *self.options)
        returned = self.custom.call(self.kind, self.instance, "forward", arrays[0], *self.extra)
        return self.to_tensor(returned, self.shape, "forward returned")

    def backward(self, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the gradients of the inputs and the parameters, from those of the outputs.

        The `backward` of a loss has no argument: it is the end of the network.
        """
        arguments = () if self.kind == LOSS else (self.to_array(grad),)
        returned = self.custom.call(self.kind, self.instance, "backward", *arguments)
        grad_inputs = self.to_tensor(returned, self.inputs.shape, "backward returned")
        gradients = [grad_inputs * grad if self.kind == LOSS else grad_inputs]
        for name, parameter in zip(self.names, self.parameters, strict=False):
            value = getattr(self.instance, f"d{name}", None)
            if value is None:
                raise CustomCodeError(f"{self.kind}.backward must set self.d{name}.")
            gradients.append(self.to_tensor(value, parameter.shape, f"backward set d{name}"))
        return tuple(gradients)

    def to_array(self, tensor: torch.Tensor) -> Any:
        """Return a tensor as the user's class takes it: the tensor, or a NumPy array.

        It is a copy, as the user's class may change it.
        """
        copy = tensor.detach().clone()
        return copy if self.custom.uses_torch else copy.cpu().numpy()

    def to_tensor(self, value: Any, shape: Shape, what: str) -> torch.Tensor:
        """Return a copy of what the user's class returned, as a tensor like the inputs.

        Raises:
            CustomCodeError: it is not an array of this shape.
        """
        what = f"{self.kind}.{what}"
        if value is None:
            raise CustomCodeError(f"{what} None, not an array {shape}. Is its return missing?")
        try:
            tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.array(value))
        except (TypeError, ValueError) as error:
            raise CustomCodeError(f"{what} {type(value).__name__}, not an array.") from error
        if tensor.shape != shape:
            found = tuple(tensor.shape)
            reason = explain_shape(found, tuple(shape))
            if what.endswith("forward returned"):
                reason = self.wrong_shapes.get(found, reason)
            raise CustomCodeError(
                f"{what} an array {found}. It must be {tuple(shape)}"
                f"{f': {reason}' if reason else ''}."
            )
        return tensor.detach().to(self.inputs.device, self.inputs.dtype, copy=True)


def explain_shape(found: Shape, expected: Shape) -> str:
    """Return the mistake that gives a gradient a wrong shape, or an empty text."""
    if len(found) > 1 and len(expected) == 1 and np.prod(found) > np.prod(expected):
        return "the gradient is not summed over the batch"
    if len(found) == len(expected) == 1:
        return "the gradient is summed over the wrong axes"
    if len(expected) > 1 and found in (expected[::-1], (*expected[:-2], *expected[:-3:-1])):
        return "it is transposed"
    return ""


class CallFunction(Function):
    """A `CustomCall`: call, inputs of any shape, parameters -> outputs."""

    @staticmethod
    def forward(
        ctx: Any, call: CustomCall, inputs: torch.Tensor, *parameters: torch.Tensor
    ) -> torch.Tensor:
        ctx.call = call
        return call.forward(inputs, parameters)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = ctx.call.backward(grad)
        constants = len(ctx.call.parameters) + 1 - len(gradients)
        return None, *gradients, *[None] * constants
