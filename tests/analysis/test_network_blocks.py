"""The parts of a network for a drawing: boxes, forks and blocks."""

from typing import Any

import pytest
import torch
from helpers.network_names import EVERY_NETWORK
from torch import nn

from cnnbench import models
from cnnbench.analysis.network_blocks import Block, Box, Fork, Part, list_parts
from cnnbench.analysis.network_graph import trace_graph


def parts_of(network: nn.Module, *shape: int) -> tuple[Part, ...]:
    image = torch.empty(1, *shape, device="meta")
    return list_parts(trace_graph(network.to("meta"), image))


def parts_of_network(name: str, size: int, **arguments: Any) -> tuple[Part, ...]:
    with torch.device("meta"):
        network = models.build(name, image_size=size, **arguments)
    return parts_of(network, 1, size, size)


def describe(part: Part) -> str:
    """Return a part as text: [Conv + ReLU] x 2, <Residual>, or (branch | branch)."""
    times = "" if isinstance(part, Fork) or part.times == 1 else f" x {part.times}"
    match part:
        case Box():
            return f"[{' + '.join(node.label for node in part.nodes)}]{times}"
        case Block():
            return f"<{part.kind}>{times}"
    branches = (" ".join(map(describe, branch)) for branch in part.branches)
    return f"({' | '.join(branches)}) {part.join.kind}"


@pytest.mark.parametrize(
    ("name", "size", "boxes", "blocks"),
    [
        ("lenet", 28, 8, 0),
        ("alexnet", 224, 10, 0),
        ("vgg11", 224, 13, 0),
        ("nin", 224, 13, 0),
        ("googlenet", 96, 10, 9),
        ("d2l_resnet18", 96, 5, 7),  # of its 8 blocks the first two are equal
        ("d2l_densenet", 96, 12, 4),  # each of four equal layers
        ("residual_net", 28, 6, 2),
        ("inception_net", 28, 6, 2),
    ],
)
def test_boxes_and_blocks_of_the_networks_of_the_course(
    name: str, size: int, boxes: int, blocks: int
) -> None:
    parts = parts_of_network(name, size)
    kinds = [type(part) for part in parts]
    assert (kinds.count(Box), kinds.count(Block), kinds.count(Fork)) == (boxes, blocks, 0)
    assert parts[-1].shape == (10,)


def test_layers_that_change_values_share_a_box() -> None:
    assert [describe(part) for part in parts_of_network("alexnet", 224)] == [
        "[Conv 11 × 11, 96, /4 + ReLU]",
        "[MaxPool 3 × 3, /2]",
        "[Conv 5 × 5, 256, pad 2 + ReLU]",
        "[MaxPool 3 × 3, /2]",
        "[Conv 3 × 3, 384, pad 1 + ReLU] x 2",
        "[Conv 3 × 3, 256, pad 1 + ReLU]",
        "[MaxPool 3 × 3, /2]",
        "[Flatten]",
        "[Linear 4096 + ReLU + Dropout 0.5] x 2",
        "[Linear 10]",
    ]


def test_layers_before_a_convolution_share_its_box() -> None:
    layers = [describe(part) for part in parts_of_network("densenet_bc100", 32)]
    assert layers == [
        "[Conv 3 × 3, 24, pad 1]",
        "<DenseLayer> x 16",
        "[BN + ReLU + Conv 1 × 1, 108]",
        "[AvgPool 2 × 2, /2]",
        "<DenseLayer> x 16",
        "[BN + ReLU + Conv 1 × 1, 150]",
        "[AvgPool 2 × 2, /2]",
        "<DenseLayer> x 16",
        "[BN + ReLU]",
        "[Global AvgPool]",
        "[Flatten]",
        "[Linear 10]",
    ]


@pytest.mark.parametrize(
    ("name", "size", "place", "inside"),
    [
        (
            "googlenet",
            96,
            5,
            "([Conv 1 × 1, 64 + ReLU]"
            " | [Conv 1 × 1, 96 + ReLU] [Conv 3 × 3, 128, pad 1 + ReLU]"
            " | [Conv 1 × 1, 16 + ReLU] [Conv 5 × 5, 32, pad 2 + ReLU]"
            " | [MaxPool 3 × 3, pad 1] [Conv 1 × 1, 32 + ReLU]) concatenation",
        ),
        (
            "d2l_resnet18",
            96,
            2,
            "([Conv 3 × 3, 64, pad 1 + BN + ReLU] [Conv 3 × 3, 64, pad 1 + BN] | ) sum [ReLU]",
        ),
        (
            "d2l_resnet18",
            96,
            3,
            "([Conv 3 × 3, 128, /2, pad 1 + BN + ReLU] [Conv 3 × 3, 128, pad 1 + BN]"
            " | [Conv 1 × 1, 128, /2]) sum [ReLU]",
        ),
        ("d2l_densenet", 96, 2, "( | [BN + ReLU + Conv 3 × 3, 32, pad 1]) concatenation"),
        (
            "residual_net",  # x + F(x): the line is drawn last
            28,
            2,
            "([Conv 3 × 3, 16, pad 1 + ReLU] [Conv 3 × 3, 16, pad 1] | ) sum [ReLU]",
        ),
        (
            "inception_net",
            28,
            2,
            "([Conv 1 × 1, 16] | [Conv 1 × 1, 16] [Conv 5 × 5, 24, pad 2]"
            " | [Conv 1 × 1, 16] [Conv 3 × 3, 24, pad 1] x 2"
            " | [AvgPool 3 × 3, pad 1] [Conv 1 × 1, 24]) concatenation",
        ),
        (
            "preact_resnet164",
            32,
            1,
            "[BN + ReLU] ([Conv 1 × 1, 16 + BN + ReLU] [Conv 3 × 3, 16, pad 1 + BN + ReLU]"
            " [Conv 1 × 1, 64] | [Conv 1 × 1, 64]) sum",
        ),
    ],
)
def test_branches_of_blocks(name: str, size: int, place: int, inside: str) -> None:
    block = parts_of_network(name, size)[place]
    assert isinstance(block, Block)
    assert " ".join(map(describe, block.parts)) == inside


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_branches_of_every_network_can_be_drawn(name: str) -> None:
    parts = parts_of_network(name, max(32, models.REGISTRY[name].min_image_size))
    blocks = [part for part in parts if isinstance(part, Block)]
    assert [block.kind for block in blocks if not block.parts] == []
    assert parts[-1].shape == (10,)


def test_blocks_of_one_pattern_differ_only_in_channels() -> None:
    blocks = [part for part in parts_of_network("d2l_resnet18", 96) if isinstance(part, Block)]
    same, changing = blocks[0], blocks[1]
    expected = [same, changing, same, changing, same, changing, same]
    assert [block.pattern for block in blocks] == [block.pattern for block in expected]
    assert same.pattern != changing.pattern
    assert (same.names, same.times) == (("stages.0.0", "stages.0.1"), 2)


def test_repeated_dense_layers_have_the_shapes_of_the_first_input_and_the_last_output() -> None:
    block = parts_of_network("d2l_densenet", 96)[2]
    assert isinstance(block, Block)
    assert (block.source, block.shape) == ((64, 24, 24), (192, 24, 24))


class Wired(nn.Module):
    """A network of four linear layers, wired by a function in itself or in a module inside."""

    def __init__(self, wire: Any) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.c, self.d = nn.Linear(4, 4), nn.Linear(4, 4)
        self.wire = wire

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.wire(self, features)
        return output


def nested(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = net.a(x)
    return net.d(y + net.c(y)) + x


def crossing(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = net.a(x)
    return net.c(y) * net.b(x) + y


def unused(net: Any, x: torch.Tensor) -> torch.Tensor:
    net.b(x)
    return net.a(x)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (nested, "([Linear 4] ([Linear 4] | ) sum [Linear 4] | ) sum"),
        # three branches in two sums
        (lambda net, x: net.a(x) + x + net.b(x), "[Linear 4] [add] [Linear 4] [add]"),
        (lambda net, x: x + x, "( | ) sum"),
        (lambda net, x: torch.cat([x, net.a(x), x], 1), "( | [Linear 4] | ) concatenation"),
        (lambda net, x: net.a(x).maximum(net.b(x)), "([Linear 4] | [Linear 4]) other"),
        (unused, "[Linear 4]"),
        (lambda net, x: x, ""),
    ],
)
def test_forks_of_the_network_itself(wire: Any, expected: str) -> None:
    assert " ".join(map(describe, parts_of(Wired(wire), 4))) == expected


def test_children_are_listed_if_branches_cross() -> None:
    found = [describe(part) for part in parts_of(Wired(crossing), 4)]
    assert found == ["[Linear 4] x 3", "[scaling]", "[add]"]


def test_block_with_crossing_branches_has_no_parts() -> None:
    network = nn.Sequential(nn.Linear(4, 4), Wired(crossing), nn.Linear(4, 2))
    first, block, last = parts_of(network, 4)
    assert (describe(first), describe(block), describe(last)) == (
        *("[Linear 4]", "<Wired>"),
        "[Linear 2]",
    )
    assert isinstance(block, Block)
    assert (block.parts, len(block.nodes), block.source, block.shape) == ((), 5, (4,), (4,))


def test_network_whose_output_ignores_the_image_lists_its_layers() -> None:
    def constant(net: Any, x: torch.Tensor) -> torch.Tensor:
        net.a(x)
        return torch.ones(1, 2, device="meta")

    assert [describe(part) for part in parts_of(Wired(constant), 4)] == ["[Linear 4]"]


def test_gated_shortcuts_are_blocks_without_parts() -> None:
    arguments = {"depth": 20, "shortcut": "exclusive_gating", "activation_order": "original"}
    parts = parts_of_network("preact_resnet110", 32, **arguments)
    blocks = [part for part in parts if isinstance(part, Block)]
    assert {(block.kind, block.parts) for block in blocks} == {("Unit", ())}
    assert sum(block.times for block in blocks) == 9
