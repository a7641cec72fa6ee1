"""Receptive fields: the pixels of the image that a unit of a layer can depend on.

Along each side, the units of a layer lie `jump` pixels apart, and the first unit sees the pixels
`first` to `last`. After a window of k units, d apart, that moves by s over maps padded by p, these
numbers are (Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks, 2019)

    first - p jump        last + ((k - 1) d - p) jump        jump s

If branches meet, a unit sees all pixels that one of the branches sees. The recurrence follows the
operations that PyTorch runs on the meta device, so it includes functions that a network calls
without a layer. After an operation that is not listed below, the field is unknown.
"""

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.fx.operator_schemas import normalize_function
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from cnnbench.analysis.meta_shapes import ShapeRules

__all__ = ["WHOLE", "Span", "Traced", "trace", "watch_calls"]

aten = torch.ops.aten


class Span(NamedTuple):
    """The pixels that the first unit sees along a side, and the distance of units.

    Pixels below 0 are padding. `jump` is the distance of neighboring units in pixels.
    """

    first: float
    last: float
    jump: float

    @property
    def size(self) -> float:
        """Return the number of pixels."""
        return self.last - self.first + 1

    def of_unit(self, index: int) -> tuple[float, float]:
        """Return the first and last pixel that unit `index` sees."""
        return self.first + index * self.jump, self.last + index * self.jump


Field = tuple[Span, ...]  # vertical and horizontal
PIXEL: Field = (Span(0, 0, 1), Span(0, 0, 1))
WHOLE: Field = (Span(-math.inf, math.inf, 1), Span(-math.inf, math.inf, 1))
ONE = (1, 1)
Named = Mapping[str, Any]
Record = Callable[[str, str, nn.Module, torch.Tensor], None]


@dataclass(frozen=True)
class Traced:
    """One call of a module, with the shape of the output (without batch) and its receptive field.

    `label` is the name of the module, with the number of the call from the second call on. The
    field is None if it is unknown.
    """

    name: str
    label: str
    module: nn.Module
    shape: tuple[int, ...]
    field: Field | None

    @property
    def side(self) -> float:
        """Return the height of the field in pixels, or 0 if it is unknown."""
        return 0 if self.field is None else self.field[0].size


def watch_calls(network: nn.Module, record: Record) -> RemovableHandle:
    """Call `record` with name, label, module and output after each call that returns a tensor.

    Use the result in a `with` statement, which removes the hook. Calls of the network itself are
    not recorded.
    """
    names = {module: name for name, module in network.named_modules()}
    calls: Counter[str] = Counter()

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        name = names.get(module, "")
        calls[name] += 1
        if name and isinstance(output, torch.Tensor):
            label = name if calls[name] == 1 else f"{name} (call {calls[name]})"
            record(name, label, module, output)

    return register_module_forward_hook(hook)


def trace(network: nn.Module, image: torch.Tensor) -> list[Traced]:
    """Return the calls of modules in the order in which they end, in evaluation mode.

    `network` and `image` (1, C, H, W) are on the meta device. Calls that do not return a tensor are
    left out.
    """
    traced: list[Traced] = []
    network, image = copy.deepcopy(network).eval(), image.clone()

    def record(name: str, label: str, module: nn.Module, output: Any) -> None:
        field = getattr(output, "field", None)
        traced.append(Traced(name, label, module, tuple(output.shape[1:]), field))

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "zeros"  # the values of the padding do not change the field
    image.field = PIXEL  # type: ignore[attr-defined]  # an attribute that only this module uses
    with torch.no_grad(), _FieldMode(), watch_calls(network, record):
        network(image)
    return traced


class _FieldMode(ShapeRules):  # type: ignore[no-untyped-call]  # torch has no type here
    """A context in which tensors that depend on the image get an attribute `field`."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = super().__torch_dispatch__(func, types, args, kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if hasattr(leaf, "field")]
        outputs = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
        if inputs and outputs:
            named = normalize_function(func, tuple(args), kwargs, normalize_to_only_use_kwargs=True)
            field = _compute_field(func, named.kwargs if named else {}, outputs[0], inputs)
            for tensor in outputs:
                tensor.field = field  # type: ignore[attr-defined]  # as for the image
        return output


def _compute_field(
    func: Any, named: Named, output: torch.Tensor, inputs: list[Any]
) -> Field | None:
    """Return the field of an output of `func`, called with the arguments `named`.

    `inputs` are the arguments that have a field.
    """
    fields = [tensor.field for tensor in inputs]
    if WHOLE in fields:
        return WHOLE
    field = _unite(fields)
    if field is None:
        return None
    if torch.Tag.pointwise in func.tags:
        is_aligned = all(tensor.shape[-2:] == output.shape[-2:] for tensor in inputs)
        return field if is_aligned else None
    maps = named.get("input", output)
    dims = maps.ndim
    match func:
        case aten.hardswish.default | aten._prelu_kernel.default:
            return field
        case aten.native_batch_norm.default:  # in training it uses statistics of the image
            return WHOLE if named["training"] else field
        case aten.addmm.default | aten.mm.default | aten.native_group_norm.default:
            return WHOLE
        case aten.mean.dim | aten.sum.dim_IntList | aten.amax.default:
            sides = {dim % dims for dim in named["dim"]} & {dims - 2, dims - 1}
            return (field, None, WHOLE)[len(sides)]  # reduced over no side, one side, both sides
        case aten.cat.default:
            return field if named["dim"] % dims == 1 else None
        case aten.view.default | aten.clone.default | aten.split.Tensor:
            keeps_sides = dims > 2 and output.shape[-2:] == maps.shape[-2:]
            is_vector = output.ndim == 2 and len(output) == len(maps)
            return field if keeps_sides or is_vector else None
    if dims != 4:
        return None
    match func:
        case aten.convolution.default if not named["transposed"]:
            kernel = named["weight"].shape[2:]
            return _slide(field, kernel, named["stride"], named["padding"], named["dilation"])
        case aten.max_pool2d_with_indices.default | aten.avg_pool2d.default:
            kernel, dilation = named["kernel_size"], named.get("dilation", ONE)
            return _slide(field, kernel, named["stride"] or kernel, named["padding"], dilation)
        case aten._adaptive_avg_pool2d.default | aten.adaptive_max_pool2d.default:
            kernel = [maps.shape[2] // output.shape[2], maps.shape[3] // output.shape[3]]
            is_even = not (maps.shape[2] % output.shape[2] or maps.shape[3] % output.shape[3])
            return _slide(field, kernel, kernel, (0, 0)) if is_even else None
        case aten.constant_pad_nd.default:
            pad = [*named["pad"], 0, 0]  # left, right, top, bottom
            return _slide(field, ONE, ONE, (pad[2], pad[0]))
        case aten.slice.Tensor:
            dim, steps, paddings = named["dim"], [1, 1, 1, 1], [0, 0, 0, 0]
            start, _, _ = slice(named["start"], None).indices(maps.shape[dim])
            steps[dim], paddings[dim] = named["step"], -start
            return _slide(field, ONE, steps[2:], paddings[2:])
    return None


def _unite(fields: Sequence[Field | None]) -> Field | None:
    """Return the field of a unit that depends on the units at its place in several maps.

    `fields` are those of the maps. The result is None if it is unknown.
    """
    if None in fields:
        return None
    united = []
    for spans in zip(*fields, strict=True):
        firsts, lasts, jumps = zip(*spans, strict=True)
        if len(set(jumps)) > 1:
            return None
        united.append(Span(min(firsts), max(lasts), jumps[0]))
    return tuple(united)


Pair = Sequence[int]  # vertical and horizontal


def _slide(field: Field, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = ONE) -> Field:
    """Return the field of a window that slides over units with `field`."""
    slid = []
    for span, k, s, p, d in zip(field, kernel, stride, padding, dilation, strict=True):
        last = span.last + ((k - 1) * d - p) * span.jump
        slid.append(Span(span.first - p * span.jump, last, span.jump * s))
    return tuple(slid)
