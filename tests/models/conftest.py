"""What the tests of the networks share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbench import models

Shapes = list[tuple[int, ...]]


def _on_meta(name: str, size: int, in_channels: int = 1, **arguments: Any) -> tuple[nn.Module, torch.Tensor]:
    """The network, and one image: shapes without memory. `arguments` may hold num_classes."""
    with torch.device("meta"):
        network = models.build(name, in_channels, image_size=size, **arguments).eval()
        return network, torch.empty(1, in_channels, size, size)


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
def stage_shapes() -> Callable[..., Shapes]:
    """Gives the shapes, for one image, that leave the modules named, such as "stages.0"."""

    def measure(stages: list[str], *args: Any, **kwargs: Any) -> Shapes:
        network, image = _on_meta(*args, **kwargs)
        shapes: Shapes = []
        for stage in stages:
            hook = lambda _layer, _inputs, output: shapes.append(tuple(output.shape[1:]))  # noqa: E731
            network.get_submodule(stage).register_forward_hook(hook)
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
def num_parameters() -> Callable[..., int]:
    """Gives the number of parameters for a name, an image size and arguments of `models.build`."""
    return lambda *args, **kwargs: sum(parameter.numel() for parameter in _on_meta(*args, **kwargs)[0].parameters())


@pytest.fixture(scope="session")
def multiply_adds() -> Callable[..., int]:
    """Gives the multiply-adds of convolutions and linear layers for one image, as PyTorch counts them."""

    def count(*args: Any, **kwargs: Any) -> int:
        network, image = _on_meta(*args, **kwargs)
        with FlopCounterMode(display=False) as counter:
            network(image)
        return counter.get_total_flops() // 2

    return count
