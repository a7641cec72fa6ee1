"""Which layers of a network to look at, and what to call them."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from cnnbench.analysis.activations import pick_evenly
from cnnbench.analysis.receptive_field import Traced
from cnnbench.errors import ConfigError, did_you_mean

__all__ = [
    "by",
    "choose_layers",
    "describe_field",
    "describe_module",
    "field_side",
    "is_window",
    "layers_with_statistics",
    "named_layers",
]

MAX_ROWS = 8  # layers in a picture of feature maps, unless more are named
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def by(sides: Iterable[int]) -> str:
    """Return such as 16 × 10 × 10."""
    return " × ".join(f"{side:,}" for side in sides)


def describe_module(module: nn.Module) -> str:
    """Return kind and window, such as Conv2d 5 × 5, stride 2."""
    kind = type(module).__name__
    if not hasattr(module, "kernel_size"):
        return kind
    sizes: Any = module.kernel_size, getattr(module, "stride", 1)
    window, stride = ([size] * 2 if isinstance(size, int) else list(size) for size in sizes)
    usual = window if isinstance(module, POOLINGS) else [1] * len(stride)
    step = "" if stride == usual else f", stride {stride[0]}"
    return f"{kind} {by(window)}{step}"


def field_side(layer: Traced) -> float:
    """Return the side of the receptive field in pixels, down; 0 if it is not known."""
    return 0 if layer.field is None else layer.field[0].size


def describe_field(layer: Traced, size: int) -> str:
    """Return the receptive field, such as 14 × 14, and whether that is all of `size` pixels."""
    if layer.field is None:
        return "not known"
    sides = [span.size for span in layer.field]
    if max(sides) == float("inf"):
        return "whole image"
    return by(map(round, sides)) + (", whole image" if min(sides) >= size else "")


def is_window(layer: Traced) -> bool:
    """Return whether it is a convolution or pooling, which make receptive fields."""
    return layer.is_layer and isinstance(layer.module, (nn.Conv2d, *POOLINGS))


def is_activation(layer: Traced) -> bool:
    return layer.is_layer and type(layer.module).__module__ == nn.ReLU.__module__


def layers_with_statistics(traced: Sequence[Traced]) -> list[Traced]:
    """Return convolutions, linear layers and activations; all layers if there are none."""
    weighted = (nn.Conv2d, nn.Linear)
    usual = [each for each in traced if is_activation(each) or isinstance(each.module, weighted)]
    return usual or [each for each in traced if each.is_layer]


def choose_layers(traced: Sequence[Traced]) -> list[Traced]:
    """Return at most `MAX_ROWS` of the convolutions, poolings and activations that give out maps.

    Where there are more, activations are left out, and evenly some of the rest. A network without
    such layers is shown by all that give out maps or, if there are none, vectors.
    """
    layers = [layer for layer in traced if layer.is_layer]
    maps = [layer for layer in layers if len(layer.shape) == 3 and max(layer.shape[1:]) > 1]
    chosen = [layer for layer in maps if is_window(layer) or is_activation(layer)]
    if len(chosen) > MAX_ROWS:
        chosen = [layer for layer in chosen if is_window(layer)] or chosen
    if not maps:
        vectors = [layer for layer in layers if len(layer.shape) == 1]
        chosen = [layer for layer in vectors if not isinstance(layer.module, nn.Flatten)]
    return pick_evenly(chosen or maps, MAX_ROWS)


def named_layers(
    traced: Sequence[Traced],
    network: nn.Module,
    names: Sequence[str],
) -> list[Traced]:
    """Return the modules of these names, in the order they run.

    Raises:
        ConfigError: there is none of a name, or it gives out nothing that can be shown.
    """
    known = {layer.name for layer in traced}
    for name in names:
        if name not in known and name in dict(network.named_modules()):
            reason = "gives out no tensor when the network is evaluated"
            raise ConfigError(f"--layers: {name} {reason}. Name another.")
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(f"--layers: there is no layer '{name}'. {hint}")
    shown = [layer for layer in traced if layer.name in names]
    for layer in shown:
        if len(layer.shape) not in (1, 3):
            dimensions = f"{len(layer.shape)} dimensions, neither maps nor a vector"
            raise ConfigError(f"--layers: {layer.name} gives out {dimensions}.")
    return shown
