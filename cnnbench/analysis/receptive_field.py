"""Receptive fields: the pixels of the image that a unit of a layer can depend on.

Along each side, the units of a layer lie `jump` pixels apart, and the first sees the pixels `first` to `last`. A
window of k units, d apart, that moves by s over maps padded by p makes of them (Araujo, Norris, Sim: Computing
Receptive Fields of Convolutional Neural Networks, 2019)

    first - p jump        last + ((k - 1) d - p) jump        jump s

Where branches meet, in a sum or a concatenation, a unit sees what any of them sees. The operations are followed as
they run, on the meta device, so this holds for whatever a network does between its layers as well.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.analysis.meta_shapes import ShapeRules
from cnnbench.analysis.receptive_field_rules import PIXEL, WHOLE, Field, Span, find_rule, tensors_with_field

__all__ = ["WHOLE", "Field", "Span", "Traced", "trace"]


@dataclass(frozen=True)
class Traced:
    """What a module gave out when it was called: its shape without the batch, and its receptive field.

    `call` counts the calls of a module that is called several times, from 1. The field is None if it is not known.
    """

    name: str
    call: int
    module: nn.Module
    shape: tuple[int, ...]
    field: Field | None

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.call

    @property
    def label(self) -> str:
        """The name, with the number of the call where a module is called again."""
        return self.name if self.call == 1 else f"{self.name} (call {self.call})"

    @property
    def is_layer(self) -> bool:
        """Whether it has no parts."""
        return next(self.module.children(), None) is None


def trace(network: nn.Module, image: torch.Tensor) -> list[Traced]:
    """The modules of `network` in the order they end, in evaluation mode, on `image` (1, C, H, W).

    Both are on the meta device. Outputs that are not tensors are left out.
    """
    traced: list[Traced] = []
    calls: Counter[str] = Counter()

    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1
            if isinstance(output, torch.Tensor):
                traced.append(Traced(name, calls[name], module, tuple(output.shape[1:]), _field_of(output)))

        return hook

    hooks = [module.register_forward_hook(record(name)) for name, module in network.named_modules() if name]
    # in inference mode operations arrive as they are called, not in parts
    with torch.inference_mode(), ShapeRules(), _Following():
        image = image.clone()
        image.field = PIXEL  # type: ignore[attr-defined]  # our mark
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    return traced


def _field_of(tensor: torch.Tensor) -> Field | None:
    return getattr(tensor, "field", None)


class _Following(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__ has no types
    """While it is active, tensors that depend on the image are marked with their field."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves its constructor without types

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = list(tensors_with_field([*args, *kwargs.values()]))
        rule = find_rule(func)
        # as its parts, for whose shapes there are rules; they are followed where there is none for the whole
        with nullcontext() if rule is not None or not inputs else self:
            output = func.decompose(*args, **kwargs)
        if output is NotImplemented:
            output = func(*args, **kwargs)
        elif rule is None:
            return output
        if inputs:
            field = None if rule is None or None in map(_field_of, inputs) else rule(output, *args, **kwargs)
            for each in output if isinstance(output, (tuple, list)) else (output,):
                if isinstance(each, torch.Tensor):
                    each.field = field  # type: ignore[attr-defined]  # our mark
        return output

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # otherwise PyTorch imports its compiler to keep it from this class
        return False
