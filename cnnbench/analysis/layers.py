"""The layers of a network: output shapes, parameters and arithmetic.

As in papers, the arithmetic is that of convolutions and linear layers in the forward pass for one
image. Each of the C' x H' x W' outputs of a convolution is a sum over C / groups channels and k x k
pixels. The convolution takes

    multiplications   C' H' W' x (C / groups) k k
    additions         C' H' W' x ((C / groups) k k - 1), and C' H' W' more with a bias

A linear layer counts as a 1 x 1 convolution of a map of one pixel. A multiply-add is a
multiplication and the addition of its product: there are as many as multiplications. Transposed
convolutions and functions that a network calls without a layer are not counted.

Pooling is counted beside them. Each of the C x H' x W' outputs of a pooling layer is the extreme or
the mean of kh x kw pixels. Pixels of the padding count, and the division of a mean does not.

    comparisons or additions   C H' W' x (kh kw - 1)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnbench.analysis.meta_shapes import ShapeRules

__all__ = [
    "POOLINGS",
    "Layer",
    "count_parameters",
    "measure_layers",
    "sum_layers",
    "vary_convolution",
]

Shape = tuple[int, ...]
EXTREMES = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
MEANS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
POOLINGS = (*EXTREMES, *MEANS)


@dataclass(frozen=True)
class Layer:
    """A layer, or a part of the network as one layer, with its arithmetic for one image.

    `output_shape` is without the batch. It is () if the output is not a tensor, and None if the
    layer is not called. `additions` are those of convolutions and linear layers.
    `pooling_comparisons` are those of max and min pooling, `pooling_additions` those of average
    pooling.
    """

    name: str
    kind: str
    output_shape: Shape | None
    parameters: int
    multiplications: int
    additions: int
    pooling_comparisons: int = 0
    pooling_additions: int = 0

    @property
    def intensity(self) -> float:
        """Return the multiply-adds per parameter and image."""
        return self.multiplications / max(1, self.parameters)

    @property
    def pooling(self) -> int:
        """Return the comparisons and additions of pooling."""
        return self.pooling_comparisons + self.pooling_additions


def measure_layers(
    network: nn.Module, image: torch.Tensor, depth: int | None = None
) -> list[Layer]:
    """Return the layers in the order in which they run in evaluation mode.

    `network` and `image` (1, C, H, W) are on the meta device. A layer that runs twice is listed
    twice, the second time without its parameters. A module with parameters besides those of its
    layers is listed too. Layers with parameters that do not run, such as those of an auxiliary
    classifier, are listed last. If `depth` is given, layers whose names have more parts than
    `depth` are summed up as the module they are in.
    """
    names = {module: name for name, module in network.named_modules()}
    layers: list[Layer] = []
    outputs: dict[str, Shape] = {}
    counted: set[nn.Parameter] = set()

    def record(module: nn.Module, args: Any, kwargs: Any, output: object) -> None:
        name = names[module]
        outputs[name] = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()
        direct = set(module.parameters(recurse=False)) - counted
        if direct or not list(module.children()):
            counted.update(direct)
            kind, parameters = type(module).__name__, count_parameters(direct)
            arithmetic = _count_arithmetic(module, output)
            pooling = _count_pooling(module, [*args, *kwargs.values()], output)
            layers.append(Layer(name, kind, outputs[name], parameters, *arithmetic, *pooling))

    hooks = [module.register_forward_hook(record, with_kwargs=True) for module in names]
    with ShapeRules(), torch.no_grad():
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    for module, name in names.items():
        direct = set(module.parameters(recurse=False)) - counted
        if direct:
            counted.update(direct)
            layers.append(Layer(name, type(module).__name__, None, count_parameters(direct), 0, 0))
    if depth is None:
        return layers
    parts: dict[str, list[Layer]] = {}
    for layer in layers:
        parts.setdefault(".".join(layer.name.split(".")[:depth]), []).append(layer)
    folded: list[Layer] = []
    for name, inside in parts.items():
        is_called = any(layer.output_shape is not None for layer in inside)
        kind = type(network.get_submodule(name)).__name__
        shape = outputs.get(name, () if is_called else None)
        folded.append(sum_layers(inside, name, kind, shape))
    return folded


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Return the number of elements of the parameters."""
    return sum(parameter.numel() for parameter in parameters)


def _count_arithmetic(module: nn.Module, output: object) -> tuple[int, int]:
    """Return the multiplications and the additions of a layer."""
    match module:
        case nn.Linear():
            terms = module.in_features
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            terms = module.in_channels // module.groups * math.prod(module.kernel_size)
        case _:
            return 0, 0
    assert isinstance(output, torch.Tensor)
    return output.numel() * terms, output.numel() * (terms - (module.bias is None))


def _count_pooling(module: nn.Module, inputs: Sequence[Any], output: object) -> tuple[int, int]:
    """Return the comparisons and the additions of a pooling layer."""
    if not isinstance(module, POOLINGS) or not isinstance(output, torch.Tensor):
        return 0, 0
    if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        kernel = module.kernel_size
        pixels = output.numel() * (kernel**2 if isinstance(kernel, int) else math.prod(kernel))
    else:  # windows may differ in size, and overlap
        sides = zip(inputs[0].shape[-2:], output.shape[-2:], strict=True)
        pixels = math.prod(output.shape[:-2]) * math.prod(_sum_windows(*pair) for pair in sides)
    number = pixels - output.numel()
    return (number, 0) if isinstance(module, EXTREMES) else (0, number)


def _sum_windows(side: int, count: int) -> int:
    """Return the sum of the sides of `count` adaptive windows along `side` pixels."""
    return sum(-(-(i + 1) * side // count) - i * side // count for i in range(count))


def sum_layers(
    layers: Iterable[Layer], name: str = "", kind: str = "", output_shape: Shape | None = None
) -> Layer:
    """Return the sum of `layers` as one layer."""
    layers = list(layers)
    return Layer(
        name,
        kind,
        output_shape,
        sum(layer.parameters for layer in layers),
        sum(layer.multiplications for layer in layers),
        sum(layer.additions for layer in layers),
        sum(layer.pooling_comparisons for layer in layers),
        sum(layer.pooling_additions for layer in layers),
    )


def vary_convolution(convolution: nn.Conv2d, size: Shape) -> dict[str, Layer]:
    """Return a convolution of maps of `size` (height, width) as it is and with one change each.

    Impossible changes are left out, such as a kernel larger than the padded map.
    """
    (height, width), padding = convolution.kernel_size, convolution.padding
    twice_in = {"in_channels": 2 * convolution.in_channels}
    twice_out = {"out_channels": 2 * convolution.out_channels}
    changes: dict[str, Mapping[str, object]] = {
        "as it is": {},
        "twice the input channels": twice_in,
        "twice the output channels": twice_out,
        "twice both": {**twice_in, **twice_out},
        "twice the stride": {"stride": tuple(2 * step for step in convolution.stride)},
    }
    for high, wide in ((1, 1), (height - 2, width - 2), (height + 2, width + 2)):
        if min(high, wide) > 0:
            changes[f"a kernel of {high} x {wide}"] = {"kernel_size": (high, wide)}
    if not isinstance(padding, str):
        changes["no padding"] = {"padding": tuple(0 for _ in padding)}
        changes["one more pixel of padding"] = {"padding": tuple(pad + 1 for pad in padding)}
        changes["twice the padding"] = {"padding": tuple(2 * pad for pad in padding)}
    keys = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    arguments = {key: getattr(convolution, key) for key in keys}
    arguments["bias"] = convolution.bias is not None
    outcomes: dict[str, Layer] = {}
    tried: list[dict[str, object]] = []
    for change, values in changes.items():
        changed = {**arguments, **values}
        if changed in tried:  # for example "no padding" of a convolution without padding
            continue
        tried.append(changed)
        try:
            layer = nn.Conv2d(**changed, device="meta")
            image = torch.empty(1, layer.in_channels, *size, device="meta")
            outcomes[change] = measure_layers(layer, image)[0]
        except (RuntimeError, ValueError):  # ValueError: a stride with padding="same"
            continue
    return outcomes
