"""The graph of a network: which operation feeds which.

The network runs once on the meta device, in evaluation mode. Hooks record the calls of layers. The
operations that PyTorch runs between them are recorded too: an addition or a concatenation of two
outputs joins branches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from cnnbench.analysis.layers import POOLINGS
from cnnbench.analysis.meta_shapes import ShapeRules

__all__ = ["Call", "Graph", "Node", "format_sides", "trace_graph"]

Shape = tuple[int, ...]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
SHORT = {
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), "BN"),
    **{"MaxPool2d": "MaxPool", "MinPool2d": "MinPool", "AvgPool2d": "AvgPool"},
    **{"AdaptiveAvgPool2d": "AvgPool", "AdaptiveMaxPool2d": "MaxPool"},
    **{"Conv1d": "Conv", "Conv2d": "Conv", "Conv3d": "Conv", "ConvTranspose2d": "Transposed conv"},
    **{"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh", "mul": "scaling"},
    "cat": "concatenation",
}
JOINS = {"add": "sum", "add_": "sum", "mul": "product", "mul_": "product", "cat": "concatenation"}
ALIASES = ("alias", "detach")  # functions that return their input


@dataclass(frozen=True)
class Node:
    """A call of a layer, or an operation between layers.

    `label` describes it, such as "Conv 3 × 3, 64, /2, pad 1", and `pattern` does so without its
    channels. `kind` is "image", "convolution", "linear", "pooling", "dropout", "pointwise", "sum",
    "product", "concatenation" or "other". `shape` is that of the output, without the batch.
    `inputs` are the indices of the nodes that feed it. `scope` has the indices of the calls of
    modules around it, from the network inwards.
    """

    index: int
    name: str
    label: str
    pattern: str
    kind: str
    shape: Shape
    inputs: tuple[int, ...]
    scope: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """A call of a module with layers in it: the name and the class of the module."""

    name: str
    kind: str


@dataclass
class Graph:
    """The nodes in the order in which they run, and the calls of modules around them.

    Node 0 is the image. `output` is the index of the node that returns the logits, or None if they
    do not depend on the image.
    """

    nodes: list[Node]
    calls: list[Call] = field(default_factory=list)
    output: int | None = None


def trace_graph(network: nn.Module, image: torch.Tensor) -> Graph:
    """Return the graph of a network in evaluation mode.

    `network` and `image` (1, C, H, W) are on the meta device.
    """
    image = image.clone()
    mode = _GraphMode(network, tuple(image.shape[1:]))
    _set_node(image, 0)
    hooks = []
    for module in network.modules():
        hooks += [
            module.register_forward_pre_hook(mode.enter, with_kwargs=True),
            module.register_forward_hook(mode.leave, with_kwargs=True),
        ]
    try:
        with torch.no_grad(), mode:
            outputs = _find_nodes(network.eval()(image))
    finally:
        for hook in hooks:
            hook.remove()
    mode.graph.output = outputs[0] if outputs else None
    return mode.graph


def format_sides(sides: Sequence[int]) -> str:
    """Return the product of sides as text, such as "6 × 28 × 28"."""
    return " × ".join(map(str, sides))


class _GraphMode(ShapeRules):  # type: ignore[no-untyped-call]  # torch has no type here
    """A context that records the operations on tensors that depend on the image.

    These tensors have an attribute `node`, the index of the node that made them.
    """

    def __init__(self, network: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.graph = Graph([Node(0, "", "image", "image", "image", shape, (), ())])
        self.names = {module: name for name, module in network.named_modules()}
        self.scope: list[int] = []
        self.layer: tuple[nn.Module, list[int]] | None = None  # the running layer, its inputs

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.layer is not None:
            return
        if _is_layer(module):
            self.layer = module, _find_nodes((args, kwargs))
        else:
            self.scope.append(len(self.graph.calls))
            self.graph.calls.append(Call(self.names[module], type(module).__name__))

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self.layer is None:
            self.scope.pop()
        elif self.layer[0] is module:
            inputs, self.layer = self.layer[1], None
            if inputs and not _passes_through(module):
                label, pattern = _describe_layer(module, output)
                kind = self._find_kind(module, output, inputs)
                self._record(self.names[module], label, pattern, kind, output, inputs)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        inputs = _find_nodes((args, kwargs))
        output = super().__torch_dispatch__(func, types, args, kwargs)
        if inputs and self.layer is None:
            name = func.overloadpacket.__name__
            if name in ALIASES:
                _set_node(output, inputs[0])
                return output
            kind = JOINS.get(name, "other")
            if len(inputs) == 1 and kind != "concatenation":
                kind = self._find_kind(None, output, inputs)
            label = SHORT.get(name, name)
            if name == "view" and isinstance(output, torch.Tensor) and output.ndim == 2:
                label = "Flatten"
            self._record("", label, label, kind, output, inputs)
        return output

    def _find_kind(self, module: nn.Module | None, output: Any, inputs: Sequence[int]) -> str:
        shape = _shape_of(output)
        match module:
            case nn.Linear():
                return "linear"
            case nn.Module() if isinstance(module, CONVOLUTIONS):
                return "convolution"
            case nn.Module() if isinstance(module, POOLINGS):
                return "pooling"
            case nn.Module() if isinstance(module, DROPOUTS):
                return "dropout"
        has_matrix = module is not None and any(p.ndim > 1 for p in module.parameters())
        is_same = shape == self.graph.nodes[inputs[0]].shape and len(inputs) == 1
        return "pointwise" if is_same and not has_matrix else "other"

    def _record(
        self, name: str, label: str, pattern: str, kind: str, output: Any, inputs: Sequence[int]
    ) -> None:
        index, scope = len(self.graph.nodes), tuple(self.scope)
        shape = _shape_of(output)
        node = Node(index, name, label, pattern, kind, shape, tuple(inputs), scope)
        self.graph.nodes.append(node)
        _set_node(output, index)


def _is_layer(module: nn.Module) -> bool:
    """Return whether a module is drawn as one operation: all but containers and networks."""
    is_torch = type(module).__module__.startswith("torch.nn.")
    return not list(module.children()) or (is_torch and not isinstance(module, CONTAINERS))


def _passes_through(module: nn.Module) -> bool:
    """Return whether a layer returns its input also in training."""
    if isinstance(module, DROPOUTS):
        return module.p == 0
    return isinstance(module, (nn.Identity, *CONTAINERS))  # a container without layers


def _find_nodes(values: Any) -> list[int]:
    """Return the nodes that made the tensors in nested values."""
    tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))
    return [tensor.node for tensor in tensors if hasattr(tensor, "node")]


def _set_node(values: Any, index: int) -> None:
    for leaf in tree_leaves(values):
        if isinstance(leaf, torch.Tensor):
            leaf.node = index  # type: ignore[attr-defined]  # an attribute of this module


def _shape_of(output: Any) -> Shape:
    """Return the shape of the first tensor of an output, without the batch."""
    shapes = [leaf.shape for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
    return tuple(shapes[0][1:]) if shapes else ()


def _describe_layer(module: nn.Module, output: Any) -> tuple[str, str]:
    """Return the label of a layer, and the label without channels."""
    kind = SHORT.get(type(module).__name__, type(module).__name__)
    match module:
        case nn.Linear():
            return f"{kind} {module.out_features}", kind
        case nn.Module() if isinstance(module, DROPOUTS):
            return f"{kind} {module.p:g}", f"{kind} {module.p:g}"
        case nn.AdaptiveAvgPool2d() | nn.AdaptiveMaxPool2d():
            sides = _shape_of(output)[-2:]
            kind = f"Global {kind}" if sides == (1, 1) else f"{kind} to {format_sides(sides)}"
            return kind, kind
        case nn.Module() if isinstance(module, (*CONVOLUTIONS, *POOLINGS)):
            window = f"{kind} {_format_pair(module.kernel_size, short=False)}"
            details = "" if _is_all(module.stride, 1) else f", /{_format_pair(module.stride)}"
            details += "" if _is_all(module.padding, 0) else f", pad {_format_pair(module.padding)}"
            dilation, groups = getattr(module, "dilation", 1), getattr(module, "groups", 1)
            details += "" if _is_all(dilation, 1) else f", dilation {_format_pair(dilation)}"
            channels = getattr(module, "out_channels", None)
            label = window if channels is None else f"{window}, {channels}"
            if groups > 1:
                return f"{label}{details}, {groups} groups", f"{window}{details}, groups"
            return label + details, window + details
    return kind, kind


def _is_all(sides: Any, value: int) -> bool:
    return sides == value or (isinstance(sides, tuple) and set(sides) == {value})


def _format_pair(sides: Any, short: bool = True) -> str:
    """Return the sides of a window, such as "3 × 3", or with `short` "3" if they are the same."""
    if isinstance(sides, int):
        sides = (sides, sides)
    if isinstance(sides, str) or (short and len(set(sides)) == 1):
        return str(sides if isinstance(sides, str) else sides[0])
    return format_sides(sides)
