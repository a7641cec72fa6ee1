"""Receptive fields, compared with the literature and with the pixels that units depend on."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from helpers.network_names import EVERY_NETWORK
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.analysis.receptive_field import WHOLE, Traced, trace, watch_calls


def trace_network(name: str, size: int, **arguments: Any) -> list[Traced]:
    with torch.device("meta"):
        network = models.build(name, image_size=size, **arguments)
        return trace(network, torch.empty(1, 1, size, size))


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("lenet", 28, {"features.0": 5, "features.2": 6, "features.3": 14, "features.5": 16}),
        (
            "alexnet",
            224,
            {
                **{"features.0": 11, "features.2": 19, "features.3": 51, "features.5": 67},
                **{"features.6": 99, "features.8": 131, "features.10": 163, "features.12": 195},
            },
        ),
        ("vgg11", 224, {"features.0": 4, "features.1": 10, "features.2": 30, "features.4": 150}),
        ("vgg16", 224, {"features.0": 6, "features.1": 16, "features.2": 44, "features.4": 212}),
        ("resnet18", 224, {"stem.0": 7, "stem.3": 11, "stages.3.1.residual.3": 435}),
        ("resnet20", 32, {"stem.0": 3, "stages.0": 15, "stages.1": 37, "stages.2": 81}),
    ],
)
def test_field_sizes_match_literature(name: str, size: int, expected: dict[str, float]) -> None:
    fields = {layer.name: layer.field for layer in trace_network(name, size)}
    assert {layer: fields[layer][0].size for layer in expected} == expected  # type: ignore[index]


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_last_layer_sees_whole_image(name: str) -> None:
    layers = trace_network(name, max(32, models.REGISTRY[name].min_image_size))
    assert [layer.name for layer in layers if layer.field is None] == []
    assert layers[-1].field == WHOLE


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_field_does_not_depend_on_padding_mode(mode: str) -> None:
    fields = [layer.field for layer in trace_network("inception_net", 28)]
    layers = trace_network("inception_net", 28, padding_mode=mode)
    assert [layer.field for layer in layers] == fields


def check_fields(network: nn.Module, size: int) -> None:
    """Check that units whose field lies in the image depend on exactly the pixels of their field.

    Each image has a row or a column of NaN, which makes all units NaN that depend on it.
    """
    outputs: dict[str, torch.Tensor] = {}

    def record(name: str, label: str, module: nn.Module, output: torch.Tensor) -> None:
        outputs[label] = output.isnan()

    images = torch.rand(2 * size, 1, size, size, dtype=torch.float64)
    for place in range(size):
        images[place, :, place] = torch.nan
        images[size + place, :, :, place] = torch.nan
    layers = trace(network.to("meta"), torch.empty(1, 1, size, size, device="meta"))
    network.to_empty(device="cpu").double().eval()
    for tensor in [*network.parameters(), *network.buffers()]:
        nn.init.ones_(tensor)
    with torch.inference_mode(), watch_calls(network, record):
        network(images)
    for layer in layers:
        reached = outputs[layer.label]
        if layer.field == WHOLE:  # windows that do not fit may leave out the edge
            assert reached[size // 4 : 3 * size // 4].all(), layer.label
        elif len(layer.shape) == 3:
            assert layer.field is not None, layer.label
            vertical, horizontal = reached[:size].any(dim=(1, 3)), reached[size:].any(dim=(1, 2))
            for span, units in zip(layer.field, (vertical.T, horizontal.T), strict=True):
                for unit, pixels in enumerate(units):
                    first, last = span.of_unit(unit)
                    if first >= 0 and last < size:
                        seen = pixels.nonzero().flatten().tolist()
                        assert (seen[0], seen[-1]) == (first, last), layer.label


def constructor(name: str) -> Callable[..., nn.Module]:
    build = models.REGISTRY[name].build
    return build.func if isinstance(build, partial) else build


SMALLER: dict[str, dict[str, Any]] = {  # fewer channels or layers, with the same kinds of fields
    "densenet40": {"depth": 10},
    "preact_resnet110": {"depth": 20},
    "resnet9": {"width": 8},
    "vgg11": {"width": 0.25},
    "wide_resnet16_8": {"width": 1},
}
SLOW = {"alexnet", "d2l_resnext", "densenet121"}
FAMILIES = {constructor(name): name for name in reversed(models.REGISTRY)}.values()
ONE_OF_EACH = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FAMILIES
]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_units_depend_on_exactly_the_pixels_of_their_fields(name: str) -> None:
    size = max(32, models.REGISTRY[name].min_image_size)
    with torch.device("meta"):
        network = models.build(name, image_size=size, **SMALLER.get(name, {}))
    check_fields(network, size)


class Function(nn.Module):
    def __init__(self, operation: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.forward = operation


def network_of(operation: Callable[[torch.Tensor], Any]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), Function(operation))


def ones(maps: torch.Tensor, *shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=maps.dtype, device=maps.device)


def field_after(operation: Callable[[torch.Tensor], Any]) -> Any:
    with torch.device("meta"):
        return trace(network_of(operation), torch.empty(1, 1, 16, 16))[-1].field


@pytest.mark.parametrize(
    "operation",
    [
        lambda maps: functional.relu(maps.clone().add_(1)),
        lambda maps: functional.hardswish(maps),
        lambda maps: functional.prelu(maps, ones(maps, 4)),
        lambda maps: functional.batch_norm(maps, ones(maps, 4), ones(maps, 4)),
        lambda maps: maps.mean(1, keepdim=True),
        lambda maps: functional.max_pool2d(maps, 3, 2, 1),
        lambda maps: functional.max_pool2d(maps, 2, 1, dilation=3),
        lambda maps: functional.avg_pool2d(maps, (2, 4), stride=(1, 3)),
        lambda maps: functional.conv2d(maps, ones(maps, 1, 4, 3, 5), dilation=2),
        lambda maps: functional.conv2d(maps, ones(maps, 1, 4, 3, 5), padding="same"),
        lambda maps: functional.adaptive_max_pool2d(maps, 7),
        lambda maps: functional.adaptive_avg_pool2d(maps, (7, 2)),
        lambda maps: functional.pad(maps, (1, 2, 3, 4)),
        lambda maps: functional.pad(maps, (1, 0)),
        lambda maps: maps[:, 1:, 2:, ::3],
        lambda maps: maps[:, :, -4:],
        lambda maps: maps.chunk(2, 1)[1],
        lambda maps: maps + functional.max_pool2d(maps, 3, 1, 1),
        lambda maps: torch.cat([maps, functional.pad(maps, (2, -2, 0, 0))], 1),
    ],
)
def test_known_operations_have_exact_fields(operation: Callable[[torch.Tensor], Any]) -> None:
    assert field_after(operation) not in (None, WHOLE)
    check_fields(network_of(operation), 16)


@pytest.mark.parametrize(
    "operation",
    [
        functional.instance_norm,
        lambda maps: functional.group_norm(maps, 2),
        lambda maps: maps.mean((2, 3)),
        lambda maps: maps.amax((-2, -1), keepdim=True),
        lambda maps: functional.max_pool2d(maps, 2) * maps.mean((2, 3), keepdim=True),
        lambda maps: functional.adaptive_avg_pool2d(maps, 1),
        lambda maps: functional.linear(maps.flatten(1), ones(maps, 3, 784)),
        lambda maps: maps.flatten(1) @ ones(maps, 784, 3),
    ],
)
def test_global_operations_see_whole_image(operation: Callable[[torch.Tensor], Any]) -> None:
    assert field_after(operation) == WHOLE


@pytest.mark.parametrize(
    "operation",
    [
        lambda maps: maps.roll(1, 2),
        lambda maps: maps * maps[:, :, :1],
        lambda maps: functional.adaptive_avg_pool2d(maps, 3),
        lambda maps: maps.transpose(2, 3),
        lambda maps: functional.interpolate(maps, scale_factor=2),
        lambda maps: functional.conv_transpose2d(maps, ones(maps, 4, 1, 3, 3)),
        lambda maps: maps[:, :, ::2, ::2] + functional.max_pool2d(maps, 3)[:, :, :1, :1],
        lambda maps: functional.relu(maps.roll(1, 2)),
        lambda maps: torch.cat([maps, maps], 2),
        lambda maps: maps.mean(3),
        lambda maps: maps.view(1, 4, 7, 28),
        lambda maps: functional.linear(maps, ones(maps, 3, 14)),
    ],
)
def test_unknown_operations_have_no_field(operation: Callable[[torch.Tensor], Any]) -> None:
    assert field_after(operation) is None


def test_second_call_of_layer_has_its_own_label() -> None:
    relu = nn.ReLU()
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(1, 1, 3), relu, nn.Conv2d(1, 1, 3), relu)
        layers = trace(network, torch.empty(1, 1, 9, 9))
    assert [layer.label for layer in layers] == ["0", "1", "2", "1 (call 2)"]
    assert [layer.field[0].size for layer in layers if layer.field] == [3, 3, 5, 5]


def test_trace_leaves_network_unchanged() -> None:
    with torch.device("meta"):
        network = models.build("lenet", padding_mode="reflect")
        trace(network, torch.empty(1, 1, 28, 28))
    assert network.get_submodule("features.0").padding_mode == "reflect"
