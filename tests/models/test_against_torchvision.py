"""Networks with the same weights as those of torchvision: equal logits and parameter counts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

VGGS = [*("vgg11", "vgg13", "vgg16", "vgg19"), *("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")]
RESNETS = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
DENSENETS = ["densenet121", "densenet169", "densenet201"]

Network = Callable[..., nn.Module]
Randomize = Callable[[nn.Module], None]


def torchvision_network(name: str, **arguments: Any) -> nn.Module:
    """Build a network on the meta device, which takes neither memory nor time for the weights."""
    with torch.device("meta"):
        network: nn.Module = getattr(torchvision.models, name)(weights=None, **arguments)
        return network.eval()


def split(name: str) -> tuple[str, dict[str, bool]]:
    """Return our name and arguments for a name of torchvision."""
    return name.removesuffix("_bn"), ({"batch_norm": True} if name.endswith("_bn") else {})


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def assert_equal_logits(
    ours: nn.Module, theirs: nn.Module, size: int, randomize: Randomize
) -> None:
    """Fill `theirs` at random, copy its state to `ours` in order, and compare the logits."""
    theirs = theirs.to_empty(device="cpu")
    randomize(theirs)
    mine, values = ours.state_dict(), list(theirs.state_dict().values())
    assert [value.shape for value in mine.values()] == [value.shape for value in values]
    ours.load_state_dict(dict(zip(mine, values, strict=True)), assign=True)
    images = torch.randn(2, 3, size, size)
    logits = theirs(images)
    assert logits.std() > 1e-3
    torch.testing.assert_close(ours(images), logits)


@pytest.mark.parametrize("name", [*VGGS, *RESNETS, *DENSENETS])
def test_number_of_parameters(name: str, meta_network: Network) -> None:
    ours, arguments = split(name)
    network = meta_network(ours, 224, 3, num_classes=1000, **arguments)
    assert count(network) == count(torchvision_network(name))


@pytest.mark.parametrize("name", VGGS)
def test_logits_of_vgg_at_64_pixels_match_torchvision(
    name: str, meta_network: Network, randomize: Randomize
) -> None:
    # The classifier of torchvision takes 7 x 7 pixels, as from images of 224 pixels. Images of 64
    # pixels end in 2 x 2 pixels.
    theirs = torchvision_network(name, num_classes=10)
    theirs.avgpool = nn.Identity()
    theirs.get_submodule("classifier")[0] = nn.Linear(512 * 2 * 2, 4096, device="meta")
    ours, arguments = split(name)
    assert_equal_logits(meta_network(ours, 64, 3, **arguments), theirs, 64, randomize)


def test_logits_of_vgg11_at_224_pixels_match_torchvision(
    meta_network: Network, randomize: Randomize
) -> None:
    ours = meta_network("vgg11", 224, 3, num_classes=1000)
    assert_equal_logits(ours, torchvision_network("vgg11"), 224, randomize)


@pytest.mark.parametrize("name", [*RESNETS, *DENSENETS])
def test_logits_match_torchvision(name: str, meta_network: Network, randomize: Randomize) -> None:
    ours = meta_network(name, 64, 3, num_classes=1000)
    assert_equal_logits(ours, torchvision_network(name), 64, randomize)


def without_biases(network: nn.Module) -> nn.Module:
    """Remove the biases of convolutions, which torchvision does not have."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
    return network


def test_number_of_parameters_of_resnext_without_biases_matches_torchvision(
    meta_network: Network,
) -> None:
    ours = without_biases(meta_network("d2l_resnext", 224, 3, num_classes=1000))
    assert count(ours) == count(torchvision_network("resnext50_32x4d"))


def test_logits_of_resnext_without_biases_match_torchvision(
    meta_network: Network, randomize: Randomize
) -> None:
    ours = without_biases(meta_network("d2l_resnext", 64, 3, num_classes=1000))
    assert_equal_logits(ours, torchvision_network("resnext50_32x4d"), 64, randomize)


def widths(block: nn.Module) -> list[int]:
    return [layer.out_channels for layer in block.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize("block", ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"])
def test_widths_of_googlenet_branches_match_torchvision(block: str, meta_network: Network) -> None:
    # Logits cannot be compared: torchvision has batch normalization, and 3x3 convolutions for 5x5.
    theirs = torchvision_network("googlenet", init_weights=False, aux_logits=False)
    ours = meta_network("googlenet", 96, 3)
    expected = widths(theirs.get_submodule(f"inception{block}"))
    assert widths(ours.get_submodule(f"inception_{block}")) == expected
