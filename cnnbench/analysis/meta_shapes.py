"""Compute shapes on the meta device quickly, and check there that a network runs.

On that device PyTorch computes the shape of an addition or a batch normalization in Python, after
importing sympy and its compiler: two seconds before the first result, then milliseconds for each.
`ShapeRules` computes the shapes of the usual operations of convolutional networks. It leaves other
operations and unusual arguments to PyTorch.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.errors import ConfigError
from cnnbench.models import DEBUG_HINT, build

__all__ = ["ShapeRules", "check_forward", "check_training_forward"]

aten = torch.ops.aten
Output = torch.Tensor | tuple[torch.Tensor, ...] | None


class ShapeRules(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no type here
    """A context in which `RULES` compute the outputs of operations on meta tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no type here

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        rule = RULES.get(func)
        on_meta = all(arg.is_meta for arg in args if isinstance(arg, torch.Tensor))
        if rule is not None and not kwargs and on_meta:
            output = rule(*args)
            if output is not None:
                return output
        return func(*args, **(kwargs or {}))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import PyTorch's compiler


def check_forward(
    name: str, in_channels: int, num_classes: int, image_size: int, **arguments: Any
) -> nn.Module:
    """Return the network on the meta device, after it has run on one image there.

    On the meta device the weights take no memory.

    Raises:
        ConfigError: the network cannot be built (see `models.build`), fails on the image, or does
            not return logits.
    """
    network = _build_on_meta(name, in_channels, num_classes, image_size, arguments)
    try:
        logits = _run_on_meta(network, in_channels, image_size)
    except Exception as error:
        message = f"{name} fails on an image of {image_size} pixels: {error}"
        if ":" in name:
            message += (
                f"\n{DEBUG_HINT} It is tried on the meta device, "
                "where tensors have shapes but no values."
            )
        elif "padding_mode" in arguments:
            message += _smallest_with_padding(name, in_channels, num_classes, image_size, arguments)
        raise ConfigError(message) from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != (1, num_classes):
        raise ConfigError(
            f"{name} must return logits of shape (1, {num_classes}) for one image, not {shape}."
        )
    return network


def check_training_forward(name: str, network: nn.Module, images: torch.Tensor) -> None:
    """Check that a forward pass in training mode works.

    Only custom models and batch normalization of a single example can fail after `check_forward`:
    other networks are not run. `network` and `images` (N, C, H, W) are on the meta device.

    Raises:
        ConfigError: the network fails on `images`.
    """
    if len(images) > 1 and ":" not in name:
        return
    try:
        with ShapeRules(), torch.no_grad():
            network.train()(images)
    except Exception as error:
        size = images.shape[-1]
        raise ConfigError(
            f"{name} at {size} pixels cannot train on a batch of {len(images)}: {error}"
        ) from error


def _smallest_with_padding(
    name: str, in_channels: int, num_classes: int, image_size: int, arguments: Mapping[str, Any]
) -> str:
    """Return a line with the smallest image size for the padding mode, or "" if there is none.

    Reflected and circular padding needs maps larger than the padding.
    """
    for size in range(image_size + 1, 225):
        with suppress(RuntimeError):
            network = _build_on_meta(name, in_channels, num_classes, size, arguments)
            _run_on_meta(network, in_channels, size)
            mode = arguments["padding_mode"]
            return f"\nThe smallest size with model.padding_mode={mode} is data.resize={size}."
    return ""


def _build_on_meta(
    name: str, in_channels: int, num_classes: int, image_size: int, arguments: Mapping[str, Any]
) -> nn.Module:
    with torch.device("meta"):
        network = build(name, in_channels, num_classes, image_size, **arguments)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{name} must be a torch.nn.Module, not {type(network).__name__}.")
    return network


def _run_on_meta(network: nn.Module, in_channels: int, image_size: int) -> object:
    image = torch.empty(1, in_channels, image_size, image_size, device="meta")
    with ShapeRules(), torch.no_grad():
        return network.eval()(image)


def _like(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    return torch.empty(shape, dtype=tensor.dtype, device="meta")


def _elementwise(tensor: torch.Tensor, *others: Any) -> Output:
    kinds = {(other.shape, other.dtype) for other in others if isinstance(other, torch.Tensor)}
    is_same = kinds <= {(tensor.shape, tensor.dtype)}
    return _like(tensor, tensor.shape) if is_same and tensor.is_floating_point() else None


def _in_place(tensor: torch.Tensor, *others: Any) -> Output:
    return tensor if not any(isinstance(other, torch.Tensor) for other in others) else None


def _convolution(images: torch.Tensor, weight: torch.Tensor, *arguments: Any) -> Output:
    _, stride, padding, dilation, transposed, _, groups = arguments
    if transposed or images.dim() != weight.dim() or images.shape[1] != weight.shape[1] * groups:
        return None
    window = [step * (size - 1) + 1 for step, size in zip(dilation, weight.shape[2:], strict=True)]
    return _slide(images, weight.shape[0], window, stride, padding)


def _slide(
    images: torch.Tensor,
    channels: int,
    window: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> torch.Tensor | None:
    """Return the output of a sliding window, or None if the window does not fit."""
    sides = [
        (side + 2 * pad - size) // step + 1
        for side, size, step, pad in zip(images.shape[2:], window, stride, padding, strict=True)
    ]
    return _like(images, (images.shape[0], channels, *sides)) if min(sides) > 0 else None


def _max_pool2d(
    images: torch.Tensor, kernel: list[int], stride: Sequence[int] = (), *rest: Any
) -> Output:
    padding = rest[0] if rest else (0, 0)
    stride = stride or kernel
    if images.dim() != 4 or len(rest) > 1 or not len(kernel) == len(stride) == len(padding) == 2:
        return None
    if any(2 * pad > size for pad, size in zip(padding, kernel, strict=True)):
        return None
    pooled = _slide(images, images.shape[1], kernel, stride, padding)
    if pooled is None:
        return None
    return pooled, torch.empty(pooled.shape, dtype=torch.int64, device="meta")


def _avg_pool2d(
    images: torch.Tensor, kernel: list[int], stride: Sequence[int] = (), *rest: Any
) -> Output:
    pooled = _max_pool2d(images, kernel, stride, *rest)
    return None if pooled is None else pooled[0]


def _batch_norm(
    maps: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor | None,
    var: torch.Tensor | None,
    training: bool,
    *rest: float,
) -> Output:
    channels = maps.shape[1]
    vectors = [vector for vector in (weight, bias, mean, var) if vector is not None]
    if any(vector.shape != (channels,) for vector in vectors):
        return None
    saved = (channels if training else 0,)
    return _like(maps, maps.shape), _like(maps, saved), _like(maps, saved)


def _cat(tensors: list[torch.Tensor], dim: int = 0) -> Output:
    first = tensors[0]
    before, after = first.shape[:dim], first.shape[dim + 1 :]
    kinds = {(tensor.shape[:dim], tensor.shape[dim + 1 :], tensor.dtype) for tensor in tensors}
    if dim < 0 or len(kinds) > 1:
        return None
    joined = sum(tensor.shape[dim] for tensor in tensors)
    return _like(first, (*before, joined, *after))


def _addmm(bias: torch.Tensor, inputs: torch.Tensor, weight: torch.Tensor) -> Output:
    if inputs.shape[1] != weight.shape[0] or bias.shape != (weight.shape[1],):
        return None
    return _like(inputs, (inputs.shape[0], weight.shape[1]))


def _mean(maps: torch.Tensor, dims: list[int], keepdim: bool = False) -> Output:
    """Return the output of global average pooling."""
    if maps.dim() != 4 or sorted(dims) not in ([-2, -1], [2, 3]) or not keepdim:
        return None
    return _like(maps, (*maps.shape[:2], 1, 1))


RULES: dict[Any, Callable[..., Output]] = {
    aten.convolution.default: _convolution,
    aten.native_batch_norm.default: _batch_norm,
    aten.max_pool2d_with_indices.default: _max_pool2d,
    aten.avg_pool2d.default: _avg_pool2d,
    aten.mean.dim: _mean,
    aten.addmm.default: _addmm,
    aten.cat.default: _cat,
    aten.relu.default: _elementwise,
    aten.sign.default: _elementwise,
    aten.sigmoid.default: _elementwise,
    aten.tanh.default: _elementwise,
    aten.neg.default: _elementwise,
    aten.add.Tensor: _elementwise,
    aten.mul.Tensor: _elementwise,
    aten.rsub.Scalar: _elementwise,
    aten.empty_like.default: _elementwise,
    aten.add_.Tensor: _in_place,  # batch normalization counts batches
    aten.div_.Scalar: _in_place,  # dropout scales its mask
    aten.bernoulli_.float: _in_place,  # dropout draws its mask
}
