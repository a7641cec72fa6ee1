"""What the tests of the networks share."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbench import models

Shapes = list[tuple[int, ...]]


def _on_meta(name: str, size: int) -> tuple[nn.Module, torch.Tensor]:
    """The network as it is by default, and one image: shapes without memory."""
    with torch.device("meta"):
        return models.build(name, image_size=size).eval(), torch.empty(1, 1, size, size)


@pytest.fixture(scope="session")
def output_shapes() -> Callable[[str, int], Shapes]:
    """Gives the shapes, for one image, that leave each layer but activations and dropout."""

    def measure(name: str, size: int) -> Shapes:
        network, image = _on_meta(name, size)
        shapes: Shapes = []
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d, nn.Flatten, nn.Linear)):
                layer.register_forward_hook(lambda _layer, _inputs, output: shapes.append(tuple(output.shape[1:])))
        network(image)
        return shapes

    return measure


@pytest.fixture(scope="session")
def layer_names() -> Callable[[str, int], list[str]]:
    """Gives the classes of the layers in order."""

    def name_them(name: str, size: int) -> list[str]:
        network, _ = _on_meta(name, size)
        return [type(layer).__name__ for layer in network.modules() if not list(layer.children())]

    return name_them


@pytest.fixture(scope="session")
def num_parameters() -> Callable[[str, int], int]:
    return lambda name, size: sum(parameter.numel() for parameter in _on_meta(name, size)[0].parameters())


@pytest.fixture(scope="session")
def multiply_adds() -> Callable[[str, int], int]:
    """Gives the multiplications of the convolutions and linear layers for one image."""

    def count(name: str, size: int) -> int:
        network, image = _on_meta(name, size)
        with FlopCounterMode(display=False) as counter:
            network(image)
        return counter.get_total_flops() // 2

    return count
