"""The reference implementation of any network: layers with a twin in this package become that twin.

A twin is a subclass of a PyTorch layer that computes its outputs another way and has the same
parameters. Changing the class of a layer therefore swaps its implementation. Operations between
the layers, such as the sum of a shortcut, stay those of torch.
"""

from torch import nn

from cnnbench.models.lenet import MinPool2d
from cnnbench.reference.activations import Identity, ReLU, Sigmoid, Tanh
from cnnbench.reference.batch_norm import BatchNorm1d, BatchNorm2d
from cnnbench.reference.convolution import Conv2d
from cnnbench.reference.custom.layers import find_custom_twin
from cnnbench.reference.custom.module import CustomModule
from cnnbench.reference.dropout import Dropout
from cnnbench.reference.linear import Linear
from cnnbench.reference.nodes import Flatten
from cnnbench.reference.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from cnnbench.reference.pooling import MinPool2d as ReferenceMinPool2d

__all__ = ["TWINS", "find_twin", "use_reference"]

TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.Linear: Linear,
    nn.MaxPool2d: MaxPool2d,
    nn.AvgPool2d: AvgPool2d,
    MinPool2d: ReferenceMinPool2d,
    nn.AdaptiveAvgPool2d: AdaptiveAvgPool2d,
    nn.Identity: Identity,
    nn.ReLU: ReLU,
    nn.Sigmoid: Sigmoid,
    nn.Tanh: Tanh,
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.Dropout: Dropout,
    nn.Flatten: Flatten,
}

# The implemented values of the options that a custom model may set to others. The built-in networks
# use only these.
SUPPORTED_OPTIONS: dict[str, tuple[object, ...]] = {
    "dilation": (1, (1, 1)),
    "ceil_mode": (False,),
    "count_include_pad": (True,),
    "divisor_override": (None,),
    "return_indices": (False,),
}


def find_twin(layer: nn.Module, custom: CustomModule | None = None) -> type[nn.Module] | None:
    """Return the class of the reference implementation of `layer`, or None if there is none.

    If the user's file has a class for the layer, this class computes the twin.
    """
    for option, values in SUPPORTED_OPTIONS.items():
        if getattr(layer, option, values[0]) not in values:
            return None
    twin = None if custom is None else find_custom_twin(layer, custom)
    return twin or TWINS.get(type(layer))


def use_reference(network: nn.Module, custom: CustomModule | None = None) -> None:
    """Replace the layers of `network` in place by their twins, see `find_twin`.

    They keep their parameters, buffers and hooks. A layer without a twin stays as it is.
    """
    for layer in network.modules():
        twin = find_twin(layer, custom)
        if twin is not None:
            layer.__class__ = twin
