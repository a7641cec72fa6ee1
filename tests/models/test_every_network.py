"""Properties of all networks of the registry."""

import inspect
from collections.abc import Callable
from functools import partial

import pytest
import torch
from helpers.network_names import EVERY_NETWORK, LARGE
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.analysis.meta_shapes import check_forward
from cnnbench.errors import ConfigError

WITH_MIN_SIZE = [
    pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
    for name in models.names()
    if models.REGISTRY[name].min_image_size > 1
]


def constructor(name: str) -> Callable[..., nn.Module]:
    build = models.REGISTRY[name].build
    return build.func if isinstance(build, partial) else build


# The shallowest network of each class, which is the first in the registry.
SHALLOW = list({constructor(name): name for name in reversed(models.REGISTRY)}.values())


def build_small(name: str, num_classes: int = 10) -> tuple[nn.Module, torch.Tensor]:
    """Return the network for its smallest size from 8 pixels on, and four random images."""
    size = max(models.REGISTRY[name].min_image_size, 8)
    torch.manual_seed(0)
    return models.build(name, 1, num_classes, size), torch.randn(4, 1, size, size)


@pytest.mark.parametrize("size", [28, 32, 64, 96, 224])
@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_common_image_sizes_work_or_error_names_smallest(name: str, size: int) -> None:
    smallest = models.REGISTRY[name].min_image_size
    if size >= smallest:
        check_forward(name, 3, 7, size)
    else:
        message = rf"{name} .*{size} pixels.*data\.resize={smallest}\b"
        with pytest.raises(ConfigError, match=message):
            check_forward(name, 3, 7, size)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", WITH_MIN_SIZE)
def test_min_image_size_is_smallest_that_works(name: str) -> None:
    spec = models.REGISTRY[name]
    check_forward(name, 1, 10, spec.min_image_size)
    size = spec.min_image_size - 1
    image = torch.empty(1, 1, size, size, device="meta")
    with torch.device("meta"), pytest.raises((RuntimeError, ValueError)):
        spec.build(in_channels=1, num_classes=10, image_size=size).eval()(image)


@pytest.mark.parametrize("name", SHALLOW)
def test_all_sizes_from_smallest_work(name: str) -> None:
    smallest = models.REGISTRY[name].min_image_size
    for size in range(smallest, smallest + 33):
        check_forward(name, 1, 10, size)


def test_perceptron_takes_single_pixel() -> None:
    assert models.build("mlp", image_size=1)(torch.zeros(2, 1, 1, 1)).shape == (2, 10)


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_padding_mode_reaches_all_padded_convolutions(
    name: str, padding_modes: Callable[..., set[str]]
) -> None:
    if padding_modes(name, 224) == set():
        assert "padding_mode" not in inspect.signature(models.REGISTRY[name].build).parameters
    else:
        assert padding_modes(name, 224, padding_mode="reflect") == {"reflect"}


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_all_parameters_get_finite_gradients(name: str) -> None:
    network, images = build_small(name)
    functional.cross_entropy(network(images), torch.arange(4)).backward()
    failed = []
    for key, parameter in network.named_parameters():
        gradient = parameter.grad
        if gradient is None or not gradient.isfinite().all() or not gradient.any():
            failed.append(key)
    assert failed == []


@torch.no_grad()
def initialize(network: nn.Module) -> None:
    """Initialize weights as He et al. 2015, without which deep VGGs do not learn."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_uniform_(parameter, nonlinearity="relu")


@torch.no_grad()
def keep_classes_alive(nin: nn.Module) -> None:
    """Initialize the last block of NiN so that no map is zero for all images.

    A ReLU follows each of its three convolutions, and a map that is always zero gets no gradient.
    """
    *_, spatial, first, second = (layer for layer in nin.modules() if isinstance(layer, nn.Conv2d))
    for layer in (spatial, first, second):
        nn.init.constant_(layer.get_parameter("bias"), 0.5)
    for layer in (first, second):
        nn.init.dirac_(layer.weight)


# Without normalization, 1e-3 is too large for these.
LEARNING_RATES = {"vgg16": 3e-4, "vgg19": 3e-4, "nin": 1e-4}
SLOW = {*LARGE, "resnet34", "resnet50", "vgg13", "d2l_resnext"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in models.names()
    ],
)
def test_network_learns_one_batch(name: str) -> None:
    network, images = build_small(name, num_classes=4)
    initialize(network)
    if name == "nin":
        keep_classes_alive(network)
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    labels = torch.arange(4)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=LEARNING_RATES.get(name, 1e-3), fused=True
    )
    for _ in range(100):
        logits = network(images)
        if torch.equal(logits.argmax(1), labels):
            return
        optimizer.zero_grad()
        functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    pytest.fail(f"after 100 steps it predicts {logits.argmax(1).tolist()}")
