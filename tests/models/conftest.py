"""Fixtures that measure networks on the meta device."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbench import models

Shapes = list[tuple[int, ...]]

POOLINGS = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Run in one thread: small networks wait for threads longer than they compute."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def _build_on_meta(name: str, size: int, in_channels: int = 1, **arguments: Any) -> nn.Module:
    """Build a network without memory for its weights. `arguments` may hold num_classes."""
    with torch.device("meta"):
        return models.build(name, in_channels, image_size=size, **arguments).eval()


def _image(size: int, in_channels: int = 1) -> torch.Tensor:
    return torch.empty(1, in_channels, size, size, device="meta")


def _run(network: nn.Module, size: int, in_channels: int = 1, **_arguments: Any) -> None:
    network(_image(size, in_channels))


def _record_shapes(shapes: Shapes) -> Callable[..., None]:
    """Return a hook that adds the shape of a layer's output, without the batch, to `shapes`."""
    return lambda _layer, _inputs, output: shapes.append(tuple(output.shape[1:]))


@pytest.fixture(scope="session")
def meta_network() -> Callable[..., nn.Module]:
    """Return a function that builds a network in eval mode on the meta device.

    Its arguments are the name, the image size and arguments of `models.build`. The functions of the
    other fixtures take the same arguments.
    """
    return _build_on_meta


@pytest.fixture(scope="session")
def output_shapes() -> Callable[..., Shapes]:
    """Return a function for the output shapes of convolutions, poolings and linear layers.

    The shapes are for one image, without the batch.
    """

    def measure(name: str, *args: Any, **kwargs: Any) -> Shapes:
        network = _build_on_meta(name, *args, **kwargs)
        shapes: Shapes = []
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, *POOLINGS, nn.Flatten, nn.Linear)):
                layer.register_forward_hook(_record_shapes(shapes))
        _run(network, *args, **kwargs)
        return shapes

    return measure


@pytest.fixture(scope="session")
def stage_shapes() -> Callable[..., Shapes]:
    """Return a function for the output shapes of the named modules, such as "stages.0"."""

    def measure(stages: list[str], name: str, *args: Any, **kwargs: Any) -> Shapes:
        network = _build_on_meta(name, *args, **kwargs)
        shapes: Shapes = []
        for stage in stages:
            network.get_submodule(stage).register_forward_hook(_record_shapes(shapes))
        _run(network, *args, **kwargs)
        return shapes

    return measure


@pytest.fixture(scope="session")
def layer_names() -> Callable[..., list[str]]:
    """Return a function for the classes of the layers, in the order of `modules()`."""

    def list_names(*args: Any, **kwargs: Any) -> list[str]:
        network = _build_on_meta(*args, **kwargs)
        return [type(layer).__name__ for layer in network.modules() if not list(layer.children())]

    return list_names


@pytest.fixture(scope="session")
def steps() -> Callable[[nn.Module], list[str]]:
    """Return a function for the classes of a block's layers in the order in which they run.

    An addition is "+". Identities are left out.
    """

    def list_steps(block: nn.Module) -> list[str]:
        names: list[str] = []
        for node in fx.symbolic_trace(block).graph.nodes:
            function = getattr(node.target, "__name__", "")
            if node.op == "call_module":
                names.append(type(block.get_submodule(str(node.target))).__name__)
            elif node.op == "call_function" and function in ("add", "iadd"):
                names.append("+")
        return [name for name in names if name != "Identity"]

    return list_steps


@pytest.fixture(scope="session")
def convolutions() -> Callable[[nn.Module], list[tuple[int, int, int]]]:
    """Return a function for input channels, output channels and kernel side of convolutions."""

    def list_convolutions(block: nn.Module) -> list[tuple[int, int, int]]:
        layers = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
        return [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in layers]

    return list_convolutions


@pytest.fixture(scope="session")
def num_parameters() -> Callable[..., int]:
    """Return a function that counts the parameters of a network."""

    def count(*args: Any, **kwargs: Any) -> int:
        return sum(parameter.numel() for parameter in _build_on_meta(*args, **kwargs).parameters())

    return count


@pytest.fixture(scope="session")
def count_multiply_adds() -> Callable[..., int]:
    """Return a function that counts the multiply-adds of a built network for one image.

    As in PyTorch, convolutions and linear layers count. The arguments are the network on the meta
    device and the image size.
    """

    def count(network: nn.Module, size: int, in_channels: int = 1) -> int:
        with FlopCounterMode(display=False) as counter:
            network(_image(size, in_channels))
        return counter.get_total_flops() // 2

    return count


@pytest.fixture(scope="session")
def multiply_adds(count_multiply_adds: Callable[..., int]) -> Callable[..., int]:
    """Return a function that counts the multiply-adds of a network for one image."""

    def count(name: str, size: int, in_channels: int = 1, **arguments: Any) -> int:
        network = _build_on_meta(name, size, in_channels, **arguments)
        return count_multiply_adds(network, size, in_channels)

    return count


@pytest.fixture(scope="session")
def padding_modes() -> Callable[..., set[str]]:
    """Return a function for the padding modes of the convolutions that pad."""

    def collect(*args: Any, **kwargs: Any) -> set[str]:
        layers = _build_on_meta(*args, **kwargs).modules()
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        return {layer.padding_mode for layer in convolutions if layer.padding != (0, 0)}

    return collect


@pytest.fixture(scope="session")
def randomize() -> Callable[[nn.Module], None]:
    """Return a function that fills all weights and statistics from a fixed seed.

    The values are far from those with which a layer does nothing.
    """

    @torch.no_grad()
    def fill(network: nn.Module) -> None:
        torch.manual_seed(0)
        for layer in network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                assert layer.num_batches_tracked is not None
                for vector in (layer.bias, layer.running_mean):
                    vector.uniform_(-0.5, 0.5)
                for vector in (layer.weight, layer.running_var):
                    vector.uniform_(0.5, 1.5)
                layer.num_batches_tracked.zero_()
            elif isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    layer.bias.uniform_(-0.1, 0.1)

    return fill


CUSTOM = """
from torch import nn

class MyNet(nn.Sequential):
    def __init__(self, in_channels: int, num_classes: int, image_size: int, bias: bool = True):
        features = in_channels * image_size**2
        super().__init__(nn.Flatten(), nn.Linear(features, num_classes, bias=bias))

class Deep(MyNet):
    def __init__(self, in_channels: int, num_classes: int, image_size: int, depth: int):
        super().__init__(in_channels, num_classes, image_size)

class Anything(MyNet):
    def __init__(self, in_channels: int, num_classes: int, image_size: int, **rest: object):
        super().__init__(in_channels, num_classes, image_size)
        self.rest = rest

def no_network(in_channels: int, num_classes: int, image_size: int) -> dict[str, int]:
    return {}
"""


@pytest.fixture
def custom_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a module with custom models that can be imported, and return its name."""
    name = "custom_networks"
    (tmp_path / f"{name}.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    return name
