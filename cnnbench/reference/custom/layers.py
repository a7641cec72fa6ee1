"""Layers and losses that are computed by the user's classes, as layers of PyTorch.

A layer of the network becomes a subclass of its class, as in swap.py. In each call it makes an
instance of the user's class from its weights, so the instance needs to remember only what its
`backward` reads. A bias that a layer does not have is passed as zeros.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from cnnbench.reference.convolution import output_size
from cnnbench.reference.custom.call import LOSS, CallFunction, CustomCall, Shape
from cnnbench.reference.custom.module import CustomCodeError, CustomModule
from cnnbench.reference.losses import to_probabilities
from cnnbench.reference.padding import pad as pad_images

__all__ = ["CustomLayer", "find_custom_twin", "make_custom_loss"]


class CustomLayer:
    """Base class of the layers below. `custom` is set in the subclasses that a run uses."""

    custom: ClassVar[CustomModule]

    @classmethod
    def supports(cls, layer: Any) -> bool:
        """Return whether the signature of the user's class has all options of `layer`."""
        return True

    def prepare(self, inputs: torch.Tensor) -> CustomCall:
        """Return the call of the user's class for these inputs."""
        raise NotImplementedError

    def weights(self) -> tuple[torch.Tensor, ...]:
        """Return the arrays that the user's class is made from."""
        return ()


class CustomConv2d(CustomLayer, nn.Conv2d):
    """A convolution. Padding with anything but zeros is added before the user's class."""

    @classmethod
    def supports(cls, layer: nn.Conv2d) -> bool:
        return layer.stride[0] == layer.stride[1] and layer.groups == 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        sides = self._reversed_padding_repeated_twice
        if self.padding_mode == "zeros" and len(set(sides)) == 1:
            return _apply(self.prepare(images), images, *self.weights())
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        left, right, top, bottom = sides
        images = pad_images(images, (left, right, top, bottom), mode)
        return _apply(self.prepare(images, 0), images, *self.weights())

    def weights(self) -> tuple[torch.Tensor, ...]:
        return _with_bias(self)

    def prepare(self, images: torch.Tensor, padding: int | None = None) -> CustomCall:
        stride, kernel = self.stride[0], self.kernel_size
        if padding is None:
            padding = self._reversed_padding_repeated_twice[0]

        def shape(stride: int, total: int) -> Shape:
            rows, cols = (
                output_size(size + total, k, stride)
                for size, k in zip(images.shape[2:], kernel, strict=True)
            )
            return len(images), self.out_channels, rows, cols

        return CustomCall(
            self.custom,
            "Conv2d",
            names=("W", "b"),
            options=(stride, padding),
            shape=shape(stride, 2 * padding),
            wrong_shapes=_find_wrong_shapes(shape, stride, padding, min(images.shape[2:]), kernel),
        )


def _find_wrong_shapes(
    shape: Callable[[int, int], Shape], stride: int, padding: int, size: int, kernel: Any
) -> dict[Shape, str]:
    """Return the shapes that mistakes of stride and padding give, by `shape(stride, padding)`."""
    wrong: dict[Shape, str] = {}
    if size < max(kernel):
        return wrong
    if padding:
        wrong[shape(stride, padding)] = "the padding is on one side only"
        wrong[shape(stride, 0)] = "the padding is ignored"
    if stride > 1:
        wrong[shape(1, 2 * padding)] = "the stride is ignored"
    wrong.pop(shape(stride, 2 * padding), None)
    return wrong


class CustomLinear(CustomLayer, nn.Linear):
    """An affine layer. Inputs (N, T, D) are N T examples."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        examples = inputs.reshape(-1, self.in_features)
        outputs = _apply(self.prepare(examples), examples, *self.weights())
        return outputs.reshape(*inputs.shape[:-1], self.out_features)

    def weights(self) -> tuple[torch.Tensor, ...]:
        return _with_bias(self)

    def prepare(self, examples: torch.Tensor) -> CustomCall:
        shape = (len(examples), self.out_features)
        return CustomCall(self.custom, "Linear", names=("W", "b"), shape=shape)


class _CustomPool(CustomLayer):
    """A pooling layer with square windows."""

    kind: ClassVar[str]
    kernel_size: Any
    stride: Any
    padding: Any

    @classmethod
    def supports(cls, layer: Any) -> bool:
        sizes = layer.kernel_size, layer.stride, layer.padding
        return all(isinstance(size, int) or size[0] == size[1] for size in sizes)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return _apply(self.prepare(maps), maps)

    def prepare(self, maps: torch.Tensor) -> CustomCall:
        sizes = self.kernel_size, self.stride, self.padding
        kernel, stride, padding = (size if isinstance(size, int) else size[0] for size in sizes)

        def shape(stride: int, total: int) -> Shape:
            rows, cols = (output_size(size + total, kernel, stride) for size in maps.shape[2:])
            return *maps.shape[:2], rows, cols

        size = min(maps.shape[2:])
        return CustomCall(
            self.custom,
            self.kind,
            options=(kernel, stride, padding),
            shape=shape(stride, 2 * padding),
            wrong_shapes=_find_wrong_shapes(shape, stride, padding, size, (kernel,)),
        )


class CustomMaxPool2d(_CustomPool, nn.MaxPool2d):
    kind = "MaxPool2d"


class CustomAvgPool2d(_CustomPool, nn.AvgPool2d):
    kind = "AvgPool2d"


class _CustomActivation(CustomLayer):
    """A function of each number. With `inplace` the outputs overwrite the inputs."""

    kind: ClassVar[str]
    inplace = False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = _apply(self.prepare(inputs), inputs)
        return inputs.copy_(outputs) if self.inplace else outputs

    def prepare(self, inputs: torch.Tensor) -> CustomCall:
        return CustomCall(self.custom, self.kind, shape=inputs.shape)


class CustomReLU(_CustomActivation, nn.ReLU):
    kind = "ReLU"


class CustomSigmoid(_CustomActivation, nn.Sigmoid):
    kind = "Sigmoid"


class CustomTanh(_CustomActivation, nn.Tanh):
    kind = "Tanh"


class CustomDropout(CustomLayer, nn.Dropout):
    """Dropout. In evaluation the user's class gives the outputs, and PyTorch the gradients.

    Each call seeds NumPy's global generator from PyTorch's, which a resumed run restores.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            np.random.seed(int(torch.randint(2**31, ())))
            outputs = _apply(self.prepare(inputs), inputs)
            return inputs.copy_(outputs) if self.inplace else outputs
        return _take_values(inputs, self.prepare(inputs).forward(inputs, ()))

    def prepare(self, inputs: torch.Tensor) -> CustomCall:
        extra = (self.training,)
        return CustomCall(
            self.custom, "Dropout", options=(self.p,), extra=extra, shape=inputs.shape
        )


class CustomBatchNorm2d(CustomLayer, nn.BatchNorm2d):
    """Batch normalization. In evaluation, gradients are PyTorch's, as for dropout.

    The user's class changes its running_mean and running_var in training.
    """

    @classmethod
    def supports(cls, layer: nn.BatchNorm2d) -> bool:
        return layer.running_mean is not None and layer.momentum is not None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        self._check_input_dim(maps)
        call = self.prepare(maps)
        if not self.training:
            outputs = call.forward(maps, self.weights())
            return _take_values(super().forward(maps), outputs)
        outputs = _apply(call, maps, *self.weights())
        with torch.no_grad():
            for name in ("running_mean", "running_var"):
                value, kept = getattr(call.instance, name, None), getattr(self, name)
                if value is None:
                    raise CustomCodeError(f"BatchNorm2d must keep self.{name}.")
                kept.copy_(call.to_tensor(value, kept.shape, f"{name} is"))
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
        return outputs

    def weights(self) -> tuple[torch.Tensor, ...]:
        assert self.running_mean is not None
        assert self.running_var is not None
        running = self.running_mean.clone(), self.running_var.clone()
        if self.weight is None:
            return torch.ones_like(running[0]), torch.zeros_like(running[0]), *running
        return self.weight, self.bias, *running

    def prepare(self, maps: torch.Tensor) -> CustomCall:
        return CustomCall(
            self.custom,
            "BatchNorm2d",
            names=("gamma", "beta"),
            options=(self.momentum, self.eps),
            extra=(self.training,),
            shape=maps.shape,
        )


TWINS: dict[type[nn.Module], type[CustomLayer]] = {
    nn.Conv2d: CustomConv2d,
    nn.Linear: CustomLinear,
    nn.MaxPool2d: CustomMaxPool2d,
    nn.AvgPool2d: CustomAvgPool2d,
    nn.BatchNorm2d: CustomBatchNorm2d,
    nn.Dropout: CustomDropout,
    nn.ReLU: CustomReLU,
    nn.Sigmoid: CustomSigmoid,
    nn.Tanh: CustomTanh,
}


def find_custom_twin(layer: nn.Module, custom: CustomModule) -> type[nn.Module] | None:
    """Return the twin of a layer that a user's class computes, or None if there is none."""
    twin: Any = TWINS.get(type(layer))
    name = type(layer).__name__
    if twin is None or name not in custom.classes or not twin.supports(layer):
        return None
    return type(name, (twin,), {"custom": custom})


def make_custom_loss(
    custom: CustomModule, label_smoothing: float = 0.0
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the cross-entropy of the user's class: logits (N, K), targets -> mean loss.

    Targets are labels (N) or probabilities (N, K). The user's class gets probabilities (N, K).
    """

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        targets = to_probabilities(targets, like=logits)
        if label_smoothing > 0:
            targets = (1 - label_smoothing) * targets + label_smoothing / logits.shape[1]
        call = CustomCall(custom, LOSS)
        call.extra = (call.to_array(targets),)
        return _apply(call, logits)

    return loss


def _apply(call: CustomCall, inputs: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
    outputs: torch.Tensor = CallFunction.apply(call, inputs, *parameters)
    return outputs


def _with_bias(layer: nn.Conv2d | nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight and the bias of a layer, zeros if it has none."""
    if layer.bias is None:
        return layer.weight, layer.weight.new_zeros(len(layer.weight))
    return layer.weight, layer.bias


def _take_values(outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return `values` with the gradients of `outputs`."""
    return values if not outputs.requires_grad else outputs + (values - outputs).detach()
