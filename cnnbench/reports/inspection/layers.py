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
    "describe",
    "in_words",
    "is_window",
    "layers_with_statistics",
    "named_layers",
    "side_of_field",
]

MOST_ROWS = 8  # layers in a picture of feature maps, unless more are named
POOLINGS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)


def by(sides: Iterable[int]) -> str:
    """Such as 16 × 10 × 10."""
    return " × ".join(f"{side:,}" for side in sides)


def describe(module: nn.Module) -> str:
    """Kind and window, such as Conv2d 5 × 5, stride 2."""
    kind = type(module).__name__
    if not hasattr(module, "kernel_size"):
        return kind
    window, stride = _sides(module.kernel_size), _sides(getattr(module, "stride", 1))
    usual = window if isinstance(module, POOLINGS) else [1] * len(stride)
    return f"{kind} {by(window)}" + (f", stride {stride[0]}" if stride != usual else "")


def _sides(size: Any) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def side_of_field(layer: Traced) -> float:
    """In pixels, down; the sides are alike in all but the strangest networks. 0 where it is not known."""
    return 0 if layer.field is None else layer.field[0].size


def in_words(layer: Traced, size: int) -> str:
    """Its receptive field, such as 14 × 14, with a word where that is no less than the image of `size` pixels."""
    if layer.field is None:
        return "not known"
    sides = [span.size for span in layer.field]
    if max(sides) == float("inf"):
        return "whole image"
    return by(map(round, sides)) + (", whole image" if min(sides) >= size else "")


def is_window(layer: Traced) -> bool:
    """Whether it is a convolution or pooling, which make receptive fields."""
    return layer.is_layer and isinstance(layer.module, (nn.Conv2d, *POOLINGS))


def is_activation(layer: Traced) -> bool:
    return layer.is_layer and type(layer.module).__module__ == nn.ReLU.__module__


def layers_with_statistics(traced: Sequence[Traced]) -> list[Traced]:
    """Convolutions, linear layers and activations; all layers of a network that has no such."""
    usual = [layer for layer in traced if is_activation(layer) or isinstance(layer.module, (nn.Conv2d, nn.Linear))]
    return usual or [layer for layer in traced if layer.is_layer]


def choose_layers(traced: Sequence[Traced]) -> list[Traced]:
    """Of the convolutions, poolings and activations that give out maps at most `MOST_ROWS`.

    Where there are more, activations are left out, and evenly some of the rest. A network without such layers is shown
    by all that give out maps or, if there are none, vectors.
    """
    layers = [layer for layer in traced if layer.is_layer]
    maps = [layer for layer in layers if len(layer.shape) == 3 and max(layer.shape[1:]) > 1]
    usual = [layer for layer in maps if is_window(layer) or is_activation(layer)]
    if len(usual) > MOST_ROWS:
        usual = [layer for layer in usual if is_window(layer)] or usual
    vectors = [layer for layer in layers if len(layer.shape) == 1 and not isinstance(layer.module, nn.Flatten)]
    return pick_evenly(usual or maps or vectors, MOST_ROWS)


def named_layers(traced: Sequence[Traced], network: nn.Module, names: Sequence[str]) -> list[Traced]:
    """The modules of these names, in the order they run.

    Raises:
        ConfigError: there is none of a name, or it gives out nothing that can be shown.
    """
    there = {layer.name for layer in traced}
    for name in names:
        if name not in there and name in dict(network.named_modules()):
            raise ConfigError(f"--layers: {name} gives out no tensor when the network is evaluated. Name another.")
        if name not in there:
            raise ConfigError(f"--layers: there is no layer '{name}'. {did_you_mean(name, there)}")
    shown = [layer for layer in traced if layer.name in names]
    odd = next((layer for layer in shown if len(layer.shape) not in (1, 3)), None)
    if odd is not None:
        raise ConfigError(f"--layers: {odd.name} gives out {len(odd.shape)} dimensions, neither maps nor a vector.")
    return shown
