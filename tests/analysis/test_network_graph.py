"""The graph of a network: its nodes, edges, joins and labels."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.network_names import EVERY_NETWORK
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.analysis.layers import measure_layers
from cnnbench.analysis.network_graph import Graph, format_sides, trace_graph


def trace_network(name: str, size: int, **arguments: Any) -> Graph:
    with torch.device("meta"):
        network = models.build(name, image_size=size, **arguments)
        return trace_graph(network, torch.empty(1, 1, size, size))


def trace_module(module: nn.Module, *shape: int) -> Graph:
    return trace_graph(module.to("meta"), torch.empty(1, *shape, device="meta"))


@pytest.mark.parametrize(
    ("name", "size", "layers", "sums", "concatenations"),
    [
        ("lenet", 28, 12, 0, 0),
        ("alexnet", 224, 21, 0, 0),
        ("vgg11", 224, 29, 0, 0),
        ("nin", 224, 30, 0, 0),
        ("googlenet", 96, 8 + 9 * 13 + 2 + 3, 0, 9),  # stem, blocks, poolings, classifier
        ("d2l_resnet18", 96, 4 + 8 * 6 + 3 + 3, 8, 0),  # stem, blocks, shortcuts, classifier
        ("d2l_densenet", 96, 4 + 16 * 3 + 3 * 4 + 5, 0, 16),
        ("residual_net", 28, 8 + 2 * 4, 2, 0),
        ("inception_net", 28, 8 + 2 * 8, 0, 2),
    ],
)
def test_nodes_and_edges_of_the_networks_of_the_course(
    name: str, size: int, layers: int, sums: int, concatenations: int
) -> None:
    graph = trace_network(name, size)
    kinds = Counter(node.kind for node in graph.nodes)
    assert len(graph.nodes) == 1 + layers + sums + concatenations
    assert (kinds["sum"], kinds["concatenation"], kinds["product"]) == (sums, concatenations, 0)
    # every node but the image has one input, a sum two, a concatenation as many as branches
    branches = 2 if name == "d2l_densenet" else 4
    edges = layers + 2 * sums + branches * concatenations
    assert sum(len(node.inputs) for node in graph.nodes) == edges
    assert graph.nodes[graph.output].shape == (10,)


def test_shapes_and_labels_of_lenet() -> None:
    graph = trace_network("lenet", 28)
    assert [(node.name, node.label, node.shape) for node in graph.nodes] == [
        ("", "image", (1, 28, 28)),
        ("features.0", "Conv 5 × 5, 6, pad 2", (6, 28, 28)),
        ("features.1", "Sigmoid", (6, 28, 28)),
        ("features.2", "AvgPool 2 × 2, /2", (6, 14, 14)),
        ("features.3", "Conv 5 × 5, 16", (16, 10, 10)),
        ("features.4", "Sigmoid", (16, 10, 10)),
        ("features.5", "AvgPool 2 × 2, /2", (16, 5, 5)),
        ("classifier.0", "Flatten", (400,)),
        ("classifier.1", "Linear 120", (120,)),
        ("classifier.2", "Sigmoid", (120,)),
        ("classifier.3", "Linear 84", (84,)),
        ("classifier.4", "Sigmoid", (84,)),
        ("classifier.5", "Linear 10", (10,)),
    ]  # fmt: skip
    assert [node.inputs for node in graph.nodes] == [(), *((index,) for index in range(12))]


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_graph_has_the_weight_layers_that_the_summary_lists(name: str) -> None:
    size = max(32, models.REGISTRY[name].min_image_size)
    with torch.device("meta"):
        network, image = models.build(name, image_size=size), torch.empty(1, 1, size, size)
    layers = [layer for layer in measure_layers(network, image) if layer.multiplications]
    nodes = [node for node in trace_graph(network, image).nodes if node.kind in WEIGHTED]
    assert [(node.name, node.shape) for node in nodes] == [
        (layer.name, layer.output_shape) for layer in layers
    ]


WEIGHTED = ("convolution", "linear")


@pytest.mark.parametrize(
    ("layer", "label", "pattern"),
    [
        (nn.Conv2d(4, 8, 3), "Conv 3 × 3, 8", "Conv 3 × 3"),
        (nn.Conv2d(4, 8, (3, 1), padding=(1, 0)), "Conv 3 × 1, 8, pad 1 × 0", None),
        (nn.Conv2d(4, 8, 3, 2, 1, 2, 4), "Conv 3 × 3, 8, /2, pad 1, dilation 2, 4 groups", None),
        (nn.Conv2d(4, 8, 3, groups=2), "Conv 3 × 3, 8, 2 groups", "Conv 3 × 3, groups"),
        (nn.Conv2d(4, 8, 3, stride=(2, 1)), "Conv 3 × 3, 8, /2 × 1", None),
        (nn.Conv2d(4, 8, 3, padding="same"), "Conv 3 × 3, 8, pad same", None),
        (nn.ConvTranspose2d(4, 8, 2, 2), "Transposed conv 2 × 2, 8, /2", None),
        (nn.MaxPool2d(3, 2, 1), "MaxPool 3 × 3, /2, pad 1", "MaxPool 3 × 3, /2, pad 1"),
        (nn.AdaptiveAvgPool2d(1), "Global AvgPool", "Global AvgPool"),
        (nn.AdaptiveMaxPool2d((2, 3)), "MaxPool to 2 × 3", None),
        (nn.BatchNorm2d(4), "BN", "BN"),
        (nn.Dropout2d(0.25), "Dropout2d 0.25", None),
        (nn.GELU(), "GELU", "GELU"),
    ],
    ids=str,
)
def test_labels_of_layers(layer: nn.Module, label: str, pattern: str | None) -> None:
    node = trace_module(layer, 4, 12, 12).nodes[1]
    assert node.label == label
    assert pattern is None or node.pattern == pattern


@pytest.mark.parametrize("layer", [nn.Identity(), nn.Dropout(0.0), nn.Sequential()], ids=str)
def test_layers_that_return_their_input_are_left_out(layer: nn.Module) -> None:
    graph = trace_module(nn.Sequential(layer, nn.Linear(3, 2)), 3)
    assert [node.label for node in graph.nodes] == ["image", "Linear 2"]


class Functions(nn.Module):
    """A network of one function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.unused = nn.Linear(1, 1)  # a module without others is one layer
        self.function = function

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.function(maps)


@pytest.mark.parametrize(
    ("function", "label", "kind"),
    [
        (functional.relu, "ReLU", "pointwise"),
        (lambda maps: 0.5 * maps, "scaling", "pointwise"),
        (lambda maps: maps.flatten(1), "Flatten", "other"),
        (lambda maps: maps.mean((2, 3)), "mean", "other"),
        (lambda maps: maps + maps, "add", "sum"),
        (lambda maps: maps * maps, "scaling", "product"),
        (lambda maps: torch.cat([maps, maps], 1), "concatenation", "concatenation"),
        (lambda maps: torch.maximum(maps, maps), "maximum", "other"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_operations_between_layers_are_recorded(
    function: Callable[[torch.Tensor], torch.Tensor], label: str, kind: str
) -> None:
    graph = trace_module(Functions(function), 3, 4, 4)
    node = graph.nodes[graph.output]
    assert (node.label, node.kind) == (label, kind)


def test_operations_in_place_follow_each_other() -> None:
    graph = trace_module(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)), 1, 6, 6)
    assert [node.inputs for node in graph.nodes] == [(), (0,), (1,)]


def test_layer_called_twice_is_two_nodes() -> None:
    layer = nn.Linear(3, 3)
    graph = trace_module(nn.Sequential(layer, layer), 3)
    assert [node.inputs for node in graph.nodes] == [(), (0,), (1,)]


def test_weights_are_no_inputs() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.inner(features) * self.scale
            return output

    graph = trace_module(Scaled(), 3)
    assert [(node.kind, node.inputs) for node in graph.nodes[1:]] == [
        ("linear", (0,)), ("pointwise", (1,)),
    ]  # fmt: skip


def test_output_that_does_not_depend_on_the_image_is_none() -> None:
    graph = trace_module(Functions(lambda maps: torch.ones(1, 2, device="meta")), 3)
    assert graph.output is None


def test_hooks_are_removed_also_after_an_error() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 4))
    with pytest.raises(RuntimeError):
        trace_module(network, 3)
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_sides_are_multiplied() -> None:
    assert format_sides((6, 28, 28)) == "6 × 28 × 28"
