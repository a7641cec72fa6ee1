"""Receptive fields: against values from the literature, against gradients, and for whatever networks do."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from networks import EVERY_NETWORK
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.analysis.activations import pick_evenly
from cnnbench.analysis.receptive_field import Traced, trace
from cnnbench.analysis.receptive_field_rules import WHOLE
from cnnbench.reports.inspection.layers import is_window


def constructor(name: str) -> Callable[..., nn.Module]:
    build = models.REGISTRY[name].build
    return build.func if isinstance(build, partial) else build


SHALLOW = sorted({constructor(name): name for name in reversed(models.REGISTRY)}.values())  # one of each class


def traced(name: str, size: int, **arguments: Any) -> list[Traced]:
    with torch.device("meta"):
        return trace(models.build(name, image_size=size, **arguments), torch.empty(1, 1, size, size))


def sides(layers: list[Traced]) -> dict[str, float]:
    return {layer.name: layer.field[0].size for layer in layers if layer.field is not None}


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("lenet", 28, {"features.0": 5, "features.2": 6, "features.3": 14, "features.5": 16}),
        (
            "alexnet",
            224,
            {
                **{"features.0": 11, "features.2": 19, "features.3": 51, "features.5": 67, "features.6": 99},
                **{"features.8": 131, "features.10": 163, "features.12": 195},
            },
        ),
        ("vgg11", 224, {f"features.{block}": side for block, side in enumerate((4, 10, 30, 70, 150))}),
        ("vgg16", 224, {f"features.{block}": side for block, side in enumerate((6, 16, 44, 100, 212))}),
        ("resnet18", 224, {"stem.0": 7, "stem.3": 11, "stages.3.1.residual.3": 435}),
        ("resnet20", 32, {"stem.0": 3, "stages.0": 15, "stages.1": 37, "stages.2": 81}),
        ("googlenet", 96, {"stem.0": 7, "stem.2": 11, "stem.5": 19, "stem.7": 27, "inception_3a": 59}),
    ],
)
def test_fields_are_those_of_the_recursion_by_hand(name: str, size: int, expected: dict[str, float]) -> None:
    found = sides(traced(name, size))
    assert {layer: found[layer] for layer in expected} == expected


def test_jumps_and_places_are_those_of_lenet() -> None:
    layer = next(each for each in traced("lenet", 28) if each.name == "features.5")
    assert layer.field is not None
    down, across = layer.field
    assert (down, down.jump, down.of_unit(0), down.of_unit(2)) == (across, 4, (-2, 13), (6, 21))


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_a_network_ends_with_the_whole_image_in_view(name: str) -> None:
    layers = traced(name, max(32, models.REGISTRY[name].min_image_size))
    assert [layer.name for layer in layers if layer.field is None] == []
    assert layers[-1].field == WHOLE


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_field_does_not_depend_on_what_the_padding_holds(mode: str) -> None:
    zeros, other = (traced("inception_net", 28, padding_mode=each) for each in ("zeros", mode))
    assert [layer.field for layer in zeros] == [layer.field for layer in other]


def one_dimensional(module: nn.Module) -> None:
    """Make a layer look down alone, so that images of one column suffice, and give it weights of one."""
    if isinstance(module, nn.Conv2d):
        module.weight = nn.Parameter(torch.ones_like(module.weight[..., :1]))
        module.bias = None
    if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        for key, neutral in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            value = getattr(module, key)
            setattr(module, key, (value if isinstance(value, int) else value[0], neutral))


def linear_parts(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """What takes the place of layers whose gradient may vanish by chance: of a maximum the mean, of a ReLU nothing."""
    for parent in network.modules():
        for key, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                yield parent, key, nn.AvgPool2d(child.kernel_size, child.stride, child.padding)
            elif isinstance(child, (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.BatchNorm2d)):
                yield parent, key, nn.Identity()


@pytest.mark.parametrize("name", SHALLOW)
def test_a_unit_depends_on_exactly_the_pixels_of_its_field(name: str) -> None:
    size, rows = max(64, models.REGISTRY[name].min_image_size), 1200
    layers = [
        each for each in traced(name, size) if is_window(each) and each.field != WHOLE and max(each.shape[1:]) > 1
    ]
    network = models.build(name, image_size=size).eval().double()
    for parent, key, child in list(linear_parts(network)):
        setattr(parent, key, child)
    for module in network.modules():
        one_dimensional(module)
    outputs: dict[str, torch.Tensor] = {}
    for layer in layers:
        network.get_submodule(layer.name).register_forward_hook(
            lambda module, inputs, output, name=layer.name: outputs.__setitem__(name, output)
        )
    image = torch.ones(1, 1, rows, 1, dtype=torch.float64, requires_grad=True)
    with suppress(RuntimeError):  # of a linear layer, which takes no image of this shape
        network(image)
    for layer in pick_evenly(layers, 12):
        output = outputs[layer.name]
        unit = output.shape[2] // 2
        (gradient,) = torch.autograd.grad(output[0, :, unit].sum(), image, retain_graph=True)
        seen = gradient.flatten().nonzero().flatten()
        assert layer.field is not None
        first, last = layer.field[0].of_unit(unit)
        assert (seen[0], seen[-1]) == (max(0, first), min(rows - 1, last)), layer.name


class Functional(nn.Module):
    """A network of functions, whose parts are named by what is done to the maps."""

    def __init__(self, do: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.do = do
        self.last = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.do(self.first(images)))
        return out


def field_after(do: Callable[[torch.Tensor], Any]) -> tuple[Any, ...] | None:
    """(first, last, jump) down and across, after a 3x3 convolution."""
    with torch.device("meta"):
        field = trace(Functional(do), torch.empty(1, 1, 16, 16))[-1].field
    return None if field is None else tuple((span.first, span.last, span.jump) for span in field)


SAME = ((0, 2, 1), (0, 2, 1))
EVERYTHING = ((-math.inf, math.inf, 1), (-math.inf, math.inf, 1))


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        (functional.relu, SAME),
        (lambda maps: maps.clone().add_(1).relu_(), SAME),
        (lambda maps: functional.batch_norm(maps, torch.zeros(4), torch.ones(4)), SAME),
        (lambda maps: functional.instance_norm(maps, torch.zeros(4), torch.ones(4), use_input_stats=False), SAME),
        (functional.instance_norm, EVERYTHING),
        (lambda maps: functional.group_norm(maps, 2), EVERYTHING),
        (lambda maps: maps.softmax(1), SAME),
        (lambda maps: maps.mean(1, keepdim=True), SAME),
        (lambda maps: maps.mean((2, 3)), EVERYTHING),
        (lambda maps: maps.amax((-2, -1), keepdim=True), EVERYTHING),
        (lambda maps: maps * maps.mean((2, 3), keepdim=True), EVERYTHING),
        (lambda maps: functional.adaptive_avg_pool2d(maps, 1), EVERYTHING),
        (lambda maps: functional.adaptive_max_pool2d(maps, 7), ((0, 3, 2), (0, 3, 2))),
        (lambda maps: functional.max_pool2d(maps, 2), ((0, 3, 2), (0, 3, 2))),
        (lambda maps: functional.max_pool2d(maps, 3, 2, 1), ((-1, 3, 2), (-1, 3, 2))),
        (lambda maps: functional.max_pool2d(maps, 2, 1, dilation=3), ((0, 5, 1), (0, 5, 1))),
        (lambda maps: functional.avg_pool2d(maps, (1, 4), stride=(1, 3)), ((0, 2, 1), (0, 5, 3))),
        (lambda maps: functional.conv2d(maps, torch.ones(1, 4, 3, 5), dilation=2), ((0, 6, 1), (0, 10, 1))),
        (lambda maps: functional.conv2d(maps, torch.ones(1, 4, 3, 5), padding="same"), ((-1, 3, 1), (-2, 4, 1))),
        (lambda maps: functional.conv2d(maps, torch.ones(1, 4, 3, 3), padding="valid"), ((0, 4, 1), (0, 4, 1))),
        (lambda maps: functional.pad(maps, (1, 2, 3, 4)), ((-3, -1, 1), (-1, 1, 1))),
        (lambda maps: maps[:, :, 2:, ::3], ((2, 4, 1), (0, 2, 3))),
        (lambda maps: maps[:, :, -4:], ((10, 12, 1), (0, 2, 1))),
        (lambda maps: maps[:, 1:], SAME),
        (lambda maps: maps.chunk(2, 1)[1], SAME),
        (lambda maps: functional.channel_shuffle(maps, 2), SAME),
        (lambda maps: maps.view(1, 2, 2, 14, 14).transpose(1, 2).reshape(1, 4, 14, 14), SAME),
        (lambda maps: maps + functional.max_pool2d(maps, 3, 1, 1), ((-1, 3, 1), (-1, 3, 1))),
        (lambda maps: torch.cat([maps, functional.pad(maps, (2, -2, 0, 0))], 1), ((0, 2, 1), (-2, 2, 1))),
        (lambda maps: maps.flatten(1), SAME),
        (lambda maps: maps.flatten(1) @ torch.ones(784, 3), EVERYTHING),
        (lambda maps: functional.linear(maps.flatten(1), torch.ones(3, 784)), EVERYTHING),
    ],
)
def test_operations_are_followed(do: Callable[[torch.Tensor], Any], expected: tuple[Any, ...]) -> None:
    assert field_after(do) == expected


@pytest.mark.parametrize(
    "do",
    [
        lambda maps: maps.roll(1, 2),
        lambda maps: maps.transpose(2, 3),
        lambda maps: functional.interpolate(maps, scale_factor=2),
        lambda maps: functional.pixel_unshuffle(maps, 2),
        lambda maps: functional.adaptive_avg_pool2d(maps, 3),
        lambda maps: maps[:, :, ::2, ::2] + functional.max_pool2d(maps, 3)[:, :, :1, :1],
        lambda maps: functional.relu(maps.roll(1, 2)),
        lambda maps: torch.cat([maps, maps], 2),
        lambda maps: functional.linear(maps, torch.ones(3, 14)),
    ],
)
def test_what_is_not_known_is_not_guessed(do: Callable[[torch.Tensor], Any]) -> None:
    assert field_after(do) is None


def test_a_layer_that_runs_twice_is_told_apart() -> None:
    relu = nn.ReLU()
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(1, 1, 3), relu, nn.Conv2d(1, 1, 3), relu)
        layers = trace(network, torch.empty(1, 1, 9, 9))
    found = [(layer.label, layer.field[0].size) for layer in layers if layer.field and layer.module is relu]
    assert found == [("1", 3), ("1 (call 2)", 5)]


def test_the_network_keeps_no_hooks() -> None:
    with torch.device("meta"):
        network = models.build("lenet")
        trace(network, torch.empty(1, 1, 28, 28))
    assert not any(module._forward_hooks for module in network.modules())
