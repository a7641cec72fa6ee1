"""What the tests of the networks share."""

from collections.abc import Callable, Iterator
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
    """Networks this small wait for each other's threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _on_meta(name: str, size: int, in_channels: int = 1, **arguments: Any) -> nn.Module:
    """The network without memory for its weights. `arguments` may hold num_classes."""
    with torch.device("meta"):
        return models.build(name, in_channels, image_size=size, **arguments).eval()


def _image(size: int, in_channels: int = 1) -> torch.Tensor:
    return torch.empty(1, in_channels, size, size, device="meta")


def _run(network: nn.Module, size: int, in_channels: int = 1, **_arguments: Any) -> None:
    network(_image(size, in_channels))


def _noting(shapes: Shapes) -> Callable[..., None]:
    """A hook that adds the shape of a layer's output, without the batch, to `shapes`."""
    return lambda _layer, _inputs, output: shapes.append(tuple(output.shape[1:]))


@pytest.fixture(scope="session")
def meta_network() -> Callable[..., nn.Module]:
    """Gives the network, in eval mode and without memory, for a name, an image size and arguments of `models.build`."""
    return _on_meta


@pytest.fixture(scope="session")
def output_shapes() -> Callable[..., Shapes]:
    """Gives the shapes, for one image, that leave each layer but normalisation, activations and dropout."""

    def measure(name: str, *args: Any, **kwargs: Any) -> Shapes:
        network = _on_meta(name, *args, **kwargs)
        shapes: Shapes = []
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, *POOLINGS, nn.Flatten, nn.Linear)):
                layer.register_forward_hook(_noting(shapes))
        _run(network, *args, **kwargs)
        return shapes

    return measure


@pytest.fixture(scope="session")
def stage_shapes() -> Callable[..., Shapes]:
    """Gives the shapes, for one image, that leave the modules named, such as "stages.0"."""

    def measure(stages: list[str], name: str, *args: Any, **kwargs: Any) -> Shapes:
        network = _on_meta(name, *args, **kwargs)
        shapes: Shapes = []
        for stage in stages:
            network.get_submodule(stage).register_forward_hook(_noting(shapes))
        _run(network, *args, **kwargs)
        return shapes

    return measure


@pytest.fixture(scope="session")
def layer_names() -> Callable[..., list[str]]:
    """Gives the classes of the layers in the order in which the network lists them."""

    def name_them(*args: Any, **kwargs: Any) -> list[str]:
        network = _on_meta(*args, **kwargs)
        return [type(layer).__name__ for layer in network.modules() if not list(layer.children())]

    return name_them


@pytest.fixture(scope="session")
def steps() -> Callable[[nn.Module], list[str]]:
    """Gives the classes of a block's layers in the order in which they run, with "+" where it adds."""

    def name_them(block: nn.Module) -> list[str]:
        names: list[str] = []
        for node in fx.symbolic_trace(block).graph.nodes:
            if node.op == "call_module":
                names.append(type(block.get_submodule(str(node.target))).__name__)
            elif node.op == "call_function" and getattr(node.target, "__name__", "") in (
                "add",
                "iadd",
            ):
                names.append("+")
        return [name for name in names if name != "Identity"]

    return name_them


@pytest.fixture(scope="session")
def num_parameters() -> Callable[..., int]:
    """Gives the number of parameters for a name, an image size and arguments of `models.build`."""
    return lambda *args, **kwargs: sum(
        parameter.numel() for parameter in _on_meta(*args, **kwargs).parameters()
    )


@pytest.fixture(scope="session")
def count_multiply_adds() -> Callable[..., int]:
    """Gives the multiply-adds of convolutions and linear layers for a network on the meta device and an image size."""

    def count(network: nn.Module, size: int, in_channels: int = 1) -> int:
        with FlopCounterMode(display=False) as counter:
            network(_image(size, in_channels))
        return counter.get_total_flops() // 2

    return count


@pytest.fixture(scope="session")
def multiply_adds(count_multiply_adds: Callable[..., int]) -> Callable[..., int]:
    """Gives the multiply-adds of convolutions and linear layers for one image, as PyTorch counts them."""

    def count(name: str, size: int, in_channels: int = 1, **arguments: Any) -> int:
        return count_multiply_adds(
            _on_meta(name, size, in_channels, **arguments), size, in_channels
        )

    return count


@pytest.fixture(scope="session")
def padding_modes() -> Callable[..., set[str]]:
    """Gives the padding modes of the convolutions that pad."""

    def collect(*args: Any, **kwargs: Any) -> set[str]:
        layers = _on_meta(*args, **kwargs).modules()
        return {
            layer.padding_mode
            for layer in layers
            if isinstance(layer, nn.Conv2d) and layer.padding != (0, 0)
        }

    return collect


@pytest.fixture(scope="session")
def randomise() -> Callable[[nn.Module], None]:
    """Fills every weight and statistic from a fixed seed, so that no layer is near one that does nothing."""

    @torch.no_grad()
    def fill(network: nn.Module) -> None:
        torch.manual_seed(0)
        for layer in network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                assert layer.num_batches_tracked is not None
                for centred in (layer.bias, layer.running_mean):
                    centred.uniform_(-0.5, 0.5)
                for positive in (layer.weight, layer.running_var):
                    positive.uniform_(0.5, 1.5)
                layer.num_batches_tracked.zero_()
            elif isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    layer.bias.uniform_(-0.1, 0.1)

    return fill
