"""Networks with the same weights as networks built from the package of the book: equal logits."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from cnnbench import models

d2l = pytest.importorskip("d2l.torch", reason="needs the package d2l, which `make test` installs")

# The networks of the book have lazy modules.
pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")

Randomize = Callable[[nn.Module], None]


def layers_as_run(network: nn.Module, images: torch.Tensor) -> list[nn.Module]:
    """Return the layers with weights, in the order in which the network calls them."""
    called: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _inputs, _output: called.append(layer))
        for layer in network.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear, nn.BatchNorm2d))
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return called


@torch.no_grad()
def assert_equal_logits(name: str, size: int, book: nn.Module, randomize: Randomize) -> None:
    """Copy the weights of `book` layer by layer, in the order in which layers run, and compare.

    Both networks run the branch of a block before its shortcut.
    """
    torch.manual_seed(0)
    images = torch.randn(2, 1, size, size)
    book(images)  # lazy layers take their sizes from the first images
    ours = models.build(name, image_size=size).eval()
    book.eval()
    randomize(book)
    pairs = list(zip(layers_as_run(ours, images), layers_as_run(book, images), strict=True))
    with_weights = [layer for layer in ours.modules() if list(layer.parameters(False))]
    assert {id(layer) for layer, _ in pairs} == {id(layer) for layer in with_weights}
    for mine, theirs in pairs:
        assert repr(mine) == repr(theirs)  # kind, channels, kernel, stride, padding, groups
        mine.load_state_dict(theirs.state_dict())
    logits = book(images)
    assert logits.std() > 1e-3
    torch.testing.assert_close(ours(images), logits)


def imagenet_stem() -> nn.Sequential:
    return nn.Sequential(
        nn.LazyConv2d(64, kernel_size=7, stride=2, padding=3),
        nn.LazyBatchNorm2d(),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


def head() -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.LazyLinear(10))


def stage(
    block: Callable[..., nn.Module], blocks: int, strides: int, project: bool = True
) -> nn.Sequential:
    """Return blocks of the book. The first has the strides and, if `project`, a 1x1 convolution."""
    first = block(use_1x1conv=project, strides=strides)
    return nn.Sequential(first, *(block() for _ in range(1, blocks)))


def resnet18() -> nn.Sequential:
    """Return the network of section 8.6.2."""
    residual = d2l.Residual
    return nn.Sequential(
        imagenet_stem(),
        stage(partial(residual, 64), 2, strides=1, project=False),
        stage(partial(residual, 128), 2, strides=2),
        stage(partial(residual, 256), 2, strides=2),
        stage(partial(residual, 512), 2, strides=2),
        head(),
    )


def resnext50() -> nn.Sequential:
    """Return the network of table 1 of the paper, with the block of section 8.6.5."""

    def block(channels: int) -> Callable[..., nn.Module]:
        channels_per_group = channels // 2 // 32
        return partial(d2l.ResNeXtBlock, channels, channels_per_group, 0.5)

    return nn.Sequential(
        imagenet_stem(),
        stage(block(256), 3, strides=1),
        stage(block(512), 4, strides=2),
        stage(block(1024), 6, strides=2),
        stage(block(2048), 3, strides=2),
        head(),
    )


def regnetx32() -> nn.Sequential:
    """Return the network of section 8.8.3."""
    return nn.Sequential(
        nn.Sequential(
            nn.LazyConv2d(32, kernel_size=3, stride=2, padding=1), nn.LazyBatchNorm2d(), nn.ReLU()
        ),
        stage(partial(d2l.ResNeXtBlock, 32, 16, 1), 4, strides=2),
        stage(partial(d2l.ResNeXtBlock, 80, 16, 1), 6, strides=2),
        head(),
    )


def test_logits_of_lenet_match_book(randomize: Randomize) -> None:
    assert_equal_logits("lenet", 28, d2l.LeNet(), randomize)


@pytest.mark.parametrize(
    ("name", "book"),
    [("d2l_resnet18", resnet18), ("d2l_resnext", resnext50), ("d2l_regnetx", regnetx32)],
)
def test_logits_match_book(name: str, book: Callable[[], nn.Module], randomize: Randomize) -> None:
    assert_equal_logits(name, 64, book(), randomize)
