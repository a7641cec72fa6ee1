"""Any network, computed by hand: each of its layers that has a twin in this package becomes that twin.

A twin is a subclass of the library's layer that computes its outputs another way and has the same parameters, so that
changing the class of a layer is all it takes. What a network computes between its layers, such as the sum of a
shortcut, is left to torch.
"""

from torch import nn

from cnnbench.models.lenet import MinPool2d
from cnnbench.reference.activations import Identity, ReLU, Sigmoid, Tanh
from cnnbench.reference.batch_norm import BatchNorm1d, BatchNorm2d
from cnnbench.reference.convolution import Conv2d
from cnnbench.reference.dropout import Dropout
from cnnbench.reference.linear import Linear
from cnnbench.reference.nodes import Flatten
from cnnbench.reference.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from cnnbench.reference.pooling import MinPool2d as MinPool2dByHand

__all__ = ["TWINS", "find_twin", "use_reference"]

TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.Linear: Linear,
    nn.MaxPool2d: MaxPool2d,
    nn.AvgPool2d: AvgPool2d,
    MinPool2d: MinPool2dByHand,
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


# What is written by hand of the options that a network of one's own may have; none of the zoo has others.
WRITTEN: dict[str, tuple[object, ...]] = {
    "dilation": (1, (1, 1)),
    "ceil_mode": (False,),
    "count_include_pad": (True,),
    "divisor_override": (None,),
    "return_indices": (False,),
}


def find_twin(layer: nn.Module) -> type[nn.Module] | None:
    """The class that computes by hand what `layer` does; None if there is none."""
    if any(getattr(layer, option, values[0]) not in values for option, values in WRITTEN.items()):
        return None
    return TWINS.get(type(layer))


def use_reference(network: nn.Module) -> None:
    """Let the layers of `network` compute by hand, with the parameters, buffers and hooks they have."""
    for layer in network.modules():
        twin = find_twin(layer)
        if twin is not None:
            layer.__class__ = twin
