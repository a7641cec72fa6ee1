"""What the layers of a network give out, hold and cost.

Counted are convolutions and linear layers, forward, for one image, as papers do. A convolution gives out
C' x H' x W' numbers, each a sum over C / groups channels and k x k pixels. It takes

    multiplications   C' H' W' x (C / groups) k k
    additions         C' H' W' x ((C / groups) k k - 1), and one more for each number if there is a bias

and a linear layer is one of 1 x 1 on a map of one pixel. A multiply-add is a multiplication and the addition
of its product, so there are as many as multiplications. Transposed convolutions, and whatever a network does
by functions instead of layers, are not counted.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from cnnbench.analysis.meta_shapes import ShapeRules

__all__ = ["Layer", "count_parameters", "measure_layers", "sum_layers", "vary_convolution"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer, or a part of the network as one: its output without the batch, its cost for one image.

    The shape is () for an output that is not a tensor, None if the layer is not called.
    """

    name: str
    kind: str
    output_shape: Shape | None
    parameters: int
    multiplications: int
    additions: int

    @property
    def intensity(self) -> float:
        """Multiply-adds per parameter and image."""
        return self.multiplications / max(1, self.parameters)


def measure_layers(
    network: nn.Module, image: torch.Tensor, depth: int | None = None
) -> list[Layer]:
    """The layers in the order they run, in evaluation mode, on one image (1, C, H, W) on the meta device.

    A layer that runs twice is listed twice, its parameters the first time. A part with parameters besides
    those of its layers is listed for them. Layers with parameters that are not called, such as those of an
    auxiliary classifier, are listed last. `depth` puts layers whose names have more parts than that together as
    the part they are in.
    """
    names = {module: name for name, module in network.named_modules()}
    layers: list[Layer] = []
    outputs: dict[str, Shape] = {}
    counted: set[nn.Parameter] = set()

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: object) -> None:
        name = names[module]
        outputs[name] = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()
        own = set(module.parameters(recurse=False)) - counted
        if own or not list(module.children()):
            counted.update(own)
            kind, parameters = type(module).__name__, count_parameters(own)
            layers.append(
                Layer(name, kind, outputs[name], parameters, *_arithmetic(module, output))
            )

    hooks = [module.register_forward_hook(record) for module in names]
    with ShapeRules(), torch.no_grad():
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    for module, name in names.items():
        own = set(module.parameters(recurse=False)) - counted
        if own:
            counted.update(own)
            layers.append(Layer(name, type(module).__name__, None, count_parameters(own), 0, 0))
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
    """Return how many numbers the parameters hold."""
    return sum(parameter.numel() for parameter in parameters)


def _arithmetic(module: nn.Module, output: object) -> tuple[int, int]:
    """Multiplications and additions."""
    match module:
        case nn.Linear():
            terms = module.in_features
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            terms = module.in_channels // module.groups * math.prod(module.kernel_size)
        case _:
            return 0, 0
    assert isinstance(output, torch.Tensor)
    return output.numel() * terms, output.numel() * (terms - (module.bias is None))


def sum_layers(
    layers: Iterable[Layer], name: str = "", kind: str = "", output_shape: Shape | None = None
) -> Layer:
    """All of `layers` as one."""
    layers = list(layers)
    return Layer(
        name,
        kind,
        output_shape,
        sum(layer.parameters for layer in layers),
        sum(layer.multiplications for layer in layers),
        sum(layer.additions for layer in layers),
    )


def vary_convolution(convolution: nn.Conv2d, size: Shape) -> dict[str, Layer]:
    """A convolution of maps of `size` (height, width): as it is, and with one thing changed.

    Changes that cannot be, such as a kernel larger than the padded map, are left out.
    """
    c = convolution
    (height, width), padding = c.kernel_size, c.padding
    changes: dict[str, dict[str, object]] = {
        "as it is": {},
        "twice the input channels": {"in_channels": 2 * c.in_channels},
        "twice the output channels": {"out_channels": 2 * c.out_channels},
        "twice both": {"in_channels": 2 * c.in_channels, "out_channels": 2 * c.out_channels},
        "twice the stride": {"stride": tuple(2 * step for step in c.stride)},
    }
    for high, wide in ((height - 2, width - 2), (height + 2, width + 2)):
        if min(high, wide) > 0:
            changes[f"a kernel of {high} x {wide}"] = {"kernel_size": (high, wide)}
    if not isinstance(padding, str):
        changes["no padding"] = {"padding": tuple(0 for _ in padding)}
        changes["one more pixel of padding"] = {"padding": tuple(pad + 1 for pad in padding)}
        changes["twice the padding"] = {"padding": tuple(2 * pad for pad in padding)}
    keys = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    arguments = {"bias": c.bias is not None, **{key: getattr(c, key) for key in keys}}
    outcomes: dict[str, Layer] = {}
    tried: list[dict[str, object]] = []
    for change, values in changes.items():
        changed = {**arguments, **values}
        if changed in tried:  # no padding where there is none
            continue
        tried.append(changed)
        try:
            layer = nn.Conv2d(**changed, device="meta")
            outcomes[change] = measure_layers(
                layer, torch.empty(1, layer.in_channels, *size, device="meta")
            )[0]
        except (RuntimeError, ValueError):  # ValueError: a stride with padding="same"
            continue
    return outcomes
