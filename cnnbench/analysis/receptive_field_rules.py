"""Rules by which operations change receptive fields: see receptive_field.py."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["PIXEL", "WHOLE", "Field", "Span", "find_rule", "tensors_with_field"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Span:
    """Along one side: the first and last pixel that the first unit sees, and the distance to the next unit's.

    Pixels below 0 are padding.
    """

    first: float
    last: float
    jump: float

    @property
    def size(self) -> float:
        return self.last - self.first + 1

    def of_unit(self, index: int) -> tuple[float, float]:
        """The first and last pixel that unit `index` sees."""
        return self.first + index * self.jump, self.last + index * self.jump


Field = tuple[Span, Span]  # down and across
PIXEL: Field = (Span(0, 0, 1), Span(0, 0, 1))
WHOLE: Field = (Span(-math.inf, math.inf, 1), Span(-math.inf, math.inf, 1))


def tensors_with_field(arguments: Sequence[Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors among the arguments that depend on the image."""
    for each in arguments:
        if isinstance(each, torch.Tensor) and hasattr(each, "field"):
            yield each
        elif isinstance(each, (list, tuple)):
            yield from tensors_with_field(each)


Rule = Callable[..., "Field | None"]  # of the output and the arguments of an operation, whose fields are all known


def find_rule(func: Any) -> Rule | None:
    return RULES.get(func) or (_union if torch.Tag.pointwise in func.tags else None)


def _union(output: Any, *args: Any, **kwargs: Any) -> Field | None:
    """What any of the arguments sees: each unit depends on those at its own place."""
    tensors = tensors_with_field([*args, *kwargs.values()])
    fields = [tensor.field for tensor in tensors]  # type: ignore[attr-defined]  # our mark
    if WHOLE in fields:
        return WHOLE
    sides = []
    for spans in zip(*fields, strict=True):
        if len({span.jump for span in spans}) > 1:
            return None
        sides.append(Span(min(span.first for span in spans), max(span.last for span in spans), spans[0].jump))
    return sides[0], sides[1]


def _pair(values: Any) -> tuple[int, int]:
    values = [values] if isinstance(values, int) else list(values)
    return values[0], values[-1]


def _slide(field: Field, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Field:
    """A window that moves over units of this field."""
    down, across = (
        Span(span.first - p * span.jump, span.last + ((k - 1) * d - p) * span.jump, span.jump * s)
        for span, k, s, p, d in zip(field, *map(_pair, (kernel, stride, padding, dilation)), strict=True)
    )
    return down, across


def _convolution(
    output: torch.Tensor,
    maps: Any,
    weight: torch.Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Field:
    kernel = weight.shape[2:]
    if isinstance(padding, str):
        total = [(k - 1) * d if padding == "same" else 0 for k, d in zip(kernel, _pair(dilation), strict=True)]
        padding = [each // 2 for each in total]
    return _slide(maps.field, kernel, stride, padding, dilation)


def _max_pool(
    output: Any, maps: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Field:
    return _slide(maps.field, kernel, stride or kernel, padding, dilation)


def _average_pool(output: Any, maps: Any, kernel: Any, stride: Any = (), padding: Any = 0, *rest: Any) -> Field:
    return _slide(maps.field, kernel, stride or kernel, padding)


def _adaptive_pool(output: Any, maps: Any, size: Any) -> Field | None:
    sides = [side if wanted is None else wanted for side, wanted in zip(maps.shape[-2:], _pair(size), strict=True)]
    if sides == [1, 1]:
        return WHOLE
    if any(side % wanted for side, wanted in zip(maps.shape[-2:], sides, strict=True)):
        return None  # windows of several sizes
    kernel = [side // wanted for side, wanted in zip(maps.shape[-2:], sides, strict=True)]
    return _slide(maps.field, kernel, kernel, 0)


def _pad(output: Any, maps: Any, padding: Sequence[int], *rest: Any) -> Field:
    left, top = padding[0], padding[2] if len(padding) > 2 else 0
    down, across = (
        Span(span.first - pad * span.jump, span.last - pad * span.jump, span.jump)
        for span, pad in zip(maps.field, (top, left), strict=True)
    )
    return down, across


def _reduce(output: Any, maps: Any, dims: Any = None, *rest: Any, **kwargs: Any) -> Field | None:
    """A mean, sum or maximum over some dimensions."""
    dims = range(maps.ndim) if not dims else [dims] if isinstance(dims, int) else dims
    if maps.field == WHOLE or {dim % maps.ndim for dim in dims} >= {maps.ndim - 2, maps.ndim - 1}:
        return WHOLE
    return _same_places(output, maps)


def _along_channels(output: Any, maps: Any, dim: int, *rest: Any) -> Field | None:
    """As a softmax, which makes each unit depend on those of other channels at its place."""
    return maps.field if maps.field == WHOLE or (maps.ndim == 4 and dim % 4 == 1) else None


def _concatenate(output: Any, tensors: Sequence[torch.Tensor], dim: int = 0) -> Field | None:
    field = _union(output, tensors)
    return field if field == WHOLE or dim % output.ndim == 1 else None


def _linear(output: Any, features: Any, *rest: Any) -> Field | None:
    """Of vectors: all that the maps saw which they were flattened from. Anything else is not known."""
    return WHOLE if features.ndim == 2 or features.field == WHOLE else None


def _multiply(output: Any, left: Any, right: Any, *rest: Any) -> Field | None:
    return _linear(output, left) if hasattr(left, "field") and not hasattr(right, "field") else None


def _add_and_multiply(output: Any, bias: Any, left: Any, right: Any, *rest: Any) -> Field | None:
    return _multiply(output, left, right)


def _same_places(output: Any, maps: Any, *rest: Any) -> Field | None:
    """Another shape, with the units where they were in the image, or flattened to vectors."""
    first = output[0] if isinstance(output, (list, tuple)) else output
    kept = first.ndim > 2 and first.shape[-2:] == maps.shape[-2:]
    return maps.field if maps.field == WHOLE or kept or first.ndim == 2 else None


def _swap(output: Any, maps: Any, *dims: Any) -> Field | None:
    """Other dimensions than the last two may change places."""
    order = list(range(maps.ndim))
    if isinstance(dims[0], int):
        one, other = dims
        order[one], order[other] = order[other], order[one]
    else:
        order = [dim % maps.ndim for dim in dims[0]]
    return maps.field if maps.field == WHOLE or order[-2:] == [maps.ndim - 2, maps.ndim - 1] else None


def _slice(output: Any, maps: Any, dim: int = 0, start: int | None = None, end: Any = None, step: int = 1) -> Any:
    side = dim % maps.ndim - (maps.ndim - 2)
    if side < 0 or maps.field == WHOLE:
        return maps.field
    start = start or 0
    start = max(start + maps.shape[dim], 0) if start < 0 else start
    spans = list(maps.field)
    span = spans[side]
    spans[side] = Span(span.first + start * span.jump, span.last + start * span.jump, span.jump * step)
    return spans[0], spans[1]


def _keep(output: Any, maps: Any, *rest: Any, **kwargs: Any) -> Field:
    field: Field = maps.field
    return field


def _whole(output: Any, *rest: Any, **kwargs: Any) -> Field:
    return WHOLE


def _instance_norm(output: Any, maps: Any, *rest: Any) -> Field:
    """Of the image's own statistics, or of those remembered from training."""
    uses_its_own = rest[4]
    return WHOLE if uses_its_own else _keep(output, maps)


RULES: dict[Any, Rule] = {
    aten.conv2d.default: _convolution,
    aten.conv2d.padding: _convolution,
    aten.max_pool2d.default: _max_pool,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.avg_pool2d.default: _average_pool,
    aten.adaptive_avg_pool2d.default: _adaptive_pool,
    aten.adaptive_max_pool2d.default: _adaptive_pool,
    aten.pad.default: _pad,
    aten.cat.default: _concatenate,
    aten.linear.default: _linear,
    aten.matmul.default: _multiply,
    aten.mm.default: _multiply,
    aten.addmm.default: _add_and_multiply,
    aten.slice.Tensor: _slice,
    aten.softmax.int: _along_channels,
    aten.log_softmax.int: _along_channels,
    aten.instance_norm.default: _instance_norm,
    **dict.fromkeys([aten.group_norm.default, aten.mean.default, aten.sum.default], _whole),
    **dict.fromkeys([aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default], _reduce),
    **dict.fromkeys([aten.transpose.int, aten.permute.default], _swap),
    **dict.fromkeys(
        [
            *(aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.channel_shuffle.default),
            *(aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims),
            *(aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default),
        ],
        _same_places,
    ),
    **dict.fromkeys(
        [
            *(aten.batch_norm.default, aten.native_batch_norm.default, aten.prelu.default, aten.hardswish.default),
            *(aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default),
            *(aten.contiguous.default, aten.detach.default, aten.to.dtype, aten.log_sigmoid.default),
        ],
        _keep,
    ),
}
