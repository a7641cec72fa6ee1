"""The layers of a network: their outputs, parameters and arithmetic."""

from typing import Any

import pytest
import torch
from helpers.network_names import EVERY_NETWORK
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbench import models
from cnnbench.analysis.layers import Layer, measure_layers, sum_layers, vary_convolution
from cnnbench.analysis.meta_shapes import ShapeRules


def meta_network(name: str, size: int, **arguments: Any) -> tuple[nn.Module, torch.Tensor]:
    with torch.device("meta"):
        return models.build(name, image_size=size, **arguments), torch.empty(1, 1, size, size)


def by_name(layers: list[Layer]) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers}


def test_layers_of_lenet() -> None:
    layers = measure_layers(*meta_network("lenet", 28))
    rows = [
        (layer.name, layer.kind, layer.output_shape, layer.parameters, layer.multiplications)
        for layer in layers
    ]
    assert rows == [
        ("features.0", "Conv2d", (6, 28, 28), 156, 117_600),
        ("features.1", "Sigmoid", (6, 28, 28), 0, 0),
        ("features.2", "AvgPool2d", (6, 14, 14), 0, 0),
        ("features.3", "Conv2d", (16, 10, 10), 2_416, 240_000),
        ("features.4", "Sigmoid", (16, 10, 10), 0, 0),
        ("features.5", "AvgPool2d", (16, 5, 5), 0, 0),
        ("classifier.0", "Flatten", (400,), 0, 0),
        ("classifier.1", "Linear", (120,), 48_120, 48_000),
        ("classifier.2", "Sigmoid", (120,), 0, 0),
        ("classifier.3", "Linear", (84,), 10_164, 10_080),
        ("classifier.4", "Sigmoid", (84,), 0, 0),
        ("classifier.5", "Linear", (10,), 850, 840),
    ]  # fmt: skip


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_totals_match_pytorch(name: str) -> None:
    network, image = meta_network(name, max(32, models.REGISTRY[name].min_image_size))
    whole = sum_layers(measure_layers(network, image))
    with ShapeRules(), FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(image)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert (whole.parameters, 2 * whole.multiplications) == (parameters, counter.get_total_flops())


@pytest.mark.parametrize(
    ("layer", "multiplications", "additions"),
    [
        (nn.Conv2d(3, 4, (3, 2), padding=1), 4 * 6 * 7 * 3 * 6, 4 * 6 * 7 * 3 * 6),
        (nn.Conv2d(3, 4, (3, 2), padding=1, bias=False), 4 * 6 * 7 * 3 * 6, 4 * 6 * 7 * 17),
        (nn.Conv2d(3, 6, 3, stride=2, groups=3, bias=False), 6 * 2 * 2 * 9, 6 * 2 * 2 * 8),
        (nn.Sequential(nn.Flatten(), nn.Linear(108, 5)), 5 * 108, 5 * 108),
        (nn.Sequential(nn.Flatten(), nn.Linear(108, 5, bias=False)), 5 * 108, 5 * 107),
    ],
    ids=["with bias", "without bias", "in groups", "linear", "linear without bias"],
)
def test_multiplications_and_additions_match_formula(
    layer: nn.Module, multiplications: int, additions: int
) -> None:
    whole = sum_layers(measure_layers(layer.to("meta"), torch.empty(1, 3, 6, 6, device="meta")))
    assert (whole.multiplications, whole.additions) == (multiplications, additions)


def count_pooling(layer: nn.Module, *shape: int) -> tuple[int, int]:
    (counted,) = measure_layers(layer.to("meta"), torch.empty(1, *shape, device="meta"))
    return counted.pooling_comparisons, counted.pooling_additions


@pytest.mark.parametrize(
    ("layer", "comparisons", "additions"),
    [
        (nn.MaxPool2d(2), 3 * 4 * 4 * 3, 0),
        (nn.MaxPool2d(3, stride=2, padding=1), 3 * 4 * 4 * 8, 0),
        (nn.MaxPool2d((1, 2)), 3 * 8 * 4 * 1, 0),
        (nn.MaxPool2d(1), 0, 0),
        (nn.AvgPool2d(2), 0, 3 * 4 * 4 * 3),
        (nn.AdaptiveMaxPool2d((4, 2)), 3 * 4 * 2 * 7, 0),
        (nn.AdaptiveAvgPool2d(1), 0, 3 * 63),
        (nn.ReLU(), 0, 0),
    ],
    ids=str,
)
def test_comparisons_and_additions_of_pooling_match_formula(
    layer: nn.Module, comparisons: int, additions: int
) -> None:
    assert count_pooling(layer, 3, 8, 8) == (comparisons, additions)


@pytest.mark.parametrize(("side", "count"), [(7, 3), (3, 5), (8, 5), (5, 5)])
def test_pooling_counts_the_pixels_of_uneven_windows(side: int, count: int) -> None:
    """Count the pixels of each window by the gradient of its mean: 1 / the number of pixels."""
    pixels = torch.arange(side * side, dtype=torch.float64).view(1, 1, side, side)
    pooled = nn.functional.adaptive_avg_pool2d(pixels.requires_grad_(), count)
    sizes = []
    for mean in pooled.flatten():
        (gradient,) = torch.autograd.grad(mean, pixels, retain_graph=True)
        sizes.append(int((gradient > 0).sum()))
    additions = sum(size - 1 for size in sizes)
    assert count_pooling(nn.AdaptiveAvgPool2d(count), 1, side, side) == (0, additions)


def test_pooling_called_by_keyword_is_counted() -> None:
    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(2)

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.pool(input=maps)
            return output

    assert count_pooling(ByKeyword(), 1, 4, 4) == (0, 12)


def test_pooling_is_no_addition_of_convolutions() -> None:
    whole = sum_layers(measure_layers(*meta_network("lenet", 28)))
    assert (whole.additions, whole.pooling_additions, whole.pooling) == (416_520, 4_728, 4_728)


def test_depth_keeps_total_and_gives_outputs_of_parts() -> None:
    network, image = meta_network("googlenet", 96)
    folded, whole = measure_layers(network, image, depth=1), measure_layers(network, image)
    assert by_name(folded)["inception_3a"].output_shape == (256, 12, 12)
    assert by_name(folded)["inception_3a"].kind == "Inception"
    assert sum_layers(folded) == sum_layers(whole)


def test_depth_limits_parts_of_names() -> None:
    layers = measure_layers(*meta_network("resnet18", 32), depth=2)
    assert [layer.name for layer in layers] == [
        "stem.0", "stem.1", "stem.2", "stem.3", "stages.0", "stages.1", "stages.2", "stages.3",
        "classifier.0", "classifier.1", "classifier.2",
    ]  # fmt: skip


def test_auxiliary_classifiers_are_listed_last_without_output() -> None:
    network, image = meta_network("googlenet", 96, auxiliary=True)
    layers = measure_layers(network, image, depth=1)
    assert [(layer.name, layer.output_shape, layer.multiplications) for layer in layers[-2:]] == [
        ("auxiliary_4a", None, 0), ("auxiliary_4d", None, 0),
    ]  # fmt: skip


class Twice(nn.Module):
    """A network with a layer that runs twice, and with a parameter outside layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.conv(self.conv(maps))
        return output


def test_layer_called_twice_counts_parameters_once() -> None:
    layers = measure_layers(Twice().to("meta"), torch.empty(1, 2, 4, 4, device="meta"))
    assert [(layer.name, layer.parameters, layer.multiplications) for layer in layers] == [
        ("conv", 6, 64), ("conv", 0, 64), ("", 3, 0),
    ]  # fmt: skip


def test_container_with_called_layers_counts_as_called() -> None:
    class Containers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.called = nn.ModuleList([nn.Conv2d(1, 1, 1)])
            self.unused = nn.ModuleList([nn.Conv2d(1, 1, 1)])

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.called[0](maps)
            return output

    image = torch.empty(1, 1, 4, 4, device="meta")
    layers = measure_layers(Containers().to("meta"), image, depth=1)
    shapes = [(layer.name, layer.output_shape) for layer in layers]
    assert shapes == [("called", ()), ("unused", None)]


def test_hooks_are_removed() -> None:
    network, image = meta_network("lenet", 28)
    measure_layers(network, image)
    assert not any(layer._forward_hooks for layer in network.modules())


def factors(convolution: nn.Conv2d, size: tuple[int, int]) -> dict[str, float]:
    """Return the multiplications after each change, divided by those without a change."""
    outcomes = vary_convolution(convolution.to("meta"), size)
    unchanged = outcomes["as it is"].multiplications
    return {change: outcome.multiplications / unchanged for change, outcome in outcomes.items()}


def test_changes_of_convolution_match_formula() -> None:
    assert factors(nn.Conv2d(4, 8, 3, padding=1), (10, 10)) == pytest.approx(
        {
            "as it is": 1,
            "twice the input channels": 2,
            "twice the output channels": 2,
            "twice both": 4,
            "twice the stride": 25 / 100,
            "a kernel of 1 x 1": 144 / 100 / 9,
            "a kernel of 5 x 5": 64 / 100 * 25 / 9,
            "no padding": 64 / 100,
            "one more pixel of padding": 144 / 100,
        }
    )


@pytest.mark.parametrize(
    ("convolution", "factor"),
    [
        (nn.Conv2d(6, 16, 5), 14**2 / (10**2 * 25)),
        (nn.Conv2d(6, 16, 5, padding=2), 18**2 / (14**2 * 25)),
        (nn.Conv2d(1, 96, 11, stride=4), 4**2 / (1 * 121)),
    ],
    ids=str,
)
def test_kernel_of_1_x_1_is_compared_whatever_the_kernel(
    convolution: nn.Conv2d, factor: float
) -> None:
    assert factors(convolution, (14, 14))["a kernel of 1 x 1"] == pytest.approx(factor)


def test_kernel_of_1_x_1_is_not_compared_with_itself() -> None:
    assert "a kernel of 1 x 1" not in factors(nn.Conv2d(6, 16, 1), (14, 14))


def test_kernel_larger_than_map_is_left_out() -> None:
    assert "a kernel of 5 x 5" not in factors(nn.Conv2d(1, 1, 3), (4, 4))
