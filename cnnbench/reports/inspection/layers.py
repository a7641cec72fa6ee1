"""The choice of layers to show, and their descriptions."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from cnnbench.analysis.activations import pick_evenly
from cnnbench.analysis.layers import POOLINGS
from cnnbench.analysis.receptive_field import Traced
from cnnbench.errors import ConfigError, did_you_mean

__all__ = [
    "WINDOWS",
    "choose_layers",
    "describe_field",
    "describe_module",
    "find_main_layers",
    "find_named_layers",
    "format_shape",
]

MAX_ROWS = 8  # layers in a picture of feature maps, unless --layers names more
WINDOWS = (nn.Conv2d, *POOLINGS)  # modules that enlarge the receptive field
NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
PASS_THROUGH = (nn.Identity, nn.Sequential, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.ConstantPad3d)
MINOR = (*NORMALIZATIONS, *PASS_THROUGH)


def format_shape(sides: Iterable[int]) -> str:
    """Return the product of sides as text, such as ``16 × 10 × 10``."""
    return " × ".join(f"{side:,}" for side in sides)


def describe_module(module: nn.Module) -> str:
    """Return kind and window of a module, such as ``Conv2d 5 × 5, stride 2``."""
    kind = type(module).__name__
    if not hasattr(module, "kernel_size"):
        return kind
    sizes: list[Any] = [module.kernel_size, module.stride]
    window, stride = ((size, size) if isinstance(size, int) else size for size in sizes)
    default_stride = window if isinstance(module, POOLINGS) else (1, 1)
    text = f"{kind} {format_shape(window)}"
    return text if stride == default_stride else f"{text}, stride {stride[0]}"


def describe_field(layer: Traced, size: int) -> str:
    """Return the receptive field of a layer, such as ``14 × 14``.

    `size` is the side of the image in pixels. The text says if the field covers the whole image.
    """
    if layer.field is None:
        return "not known"
    sides = [span.size for span in layer.field]
    if math.inf in sides:
        return "whole image"
    return format_shape(map(round, sides)) + (", whole image" if min(sides) >= size else "")


def find_main_layers(traced: Sequence[Traced]) -> list[Traced]:
    """Return the modules without children, except normalizations and modules that pass through."""
    layers = [layer for layer in traced if not list(layer.module.children())]
    return [layer for layer in layers if not isinstance(layer.module, MINOR)]


def choose_layers(layers: Sequence[Traced]) -> list[Traced]:
    """Return at most `MAX_ROWS` of the layers that output maps or, if there are none, vectors.

    If there are more, activations are left out first, then some of the others, evenly spread.
    """
    maps = [layer for layer in layers if len(layer.shape) == 3 and max(layer.shape[1:]) > 1]
    vectors = [layer for layer in layers if len(layer.shape) == 1]
    if len(maps) > MAX_ROWS:
        kind = nn.ReLU.__module__
        maps = [layer for layer in maps if type(layer.module).__module__ != kind] or maps
    return pick_evenly(maps or vectors, MAX_ROWS)


def find_named_layers(traced: Sequence[Traced], names: Sequence[str]) -> list[Traced]:
    """Return the modules of these names, in the order they run.

    Raises:
        ConfigError: no module of that name outputs maps or a vector.
    """
    shown = [layer for layer in traced if len(layer.shape) in (1, 3)]
    known = {layer.name for layer in shown}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(f"--layers: no layer '{name}' gives out maps or a vector. {hint}")
    return [layer for layer in shown if layer.name in names]
