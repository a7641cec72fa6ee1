"""Networks swapped to the reference implementation: which layers change, and equal results."""

import copy

import pytest
import torch
from helpers.network_names import EVERY_NETWORK
from helpers.random_tensors import EXACTLY
from torch import nn
from torch.testing import assert_close

from cnnbench import models
from cnnbench.reference.swap import TWINS, find_twin, use_reference

WITHOUT_TWIN = {"ConstantPad3d"}

# Batch normalization of few pixels makes these networks sensitive to rounding.
SENSITIVE = ("resnet50", "d2l_resnext")

NETWORKS = [
    ("lenet", {}),
    ("lenet", {"activation": "tanh", "pooling": "min", "padding_mode": "reflect"}),
    ("lenet", {"activation": "relu", "pooling": "max", "padding_mode": "circular"}),
    ("lenet_relu", {}),
    ("bn_lenet", {}),
    pytest.param("alexnet", {}, marks=pytest.mark.slow),
    ("nin", {"padding_mode": "replicate"}),
    pytest.param("vgg11", {"width": 0.1, "batch_norm": True}, marks=pytest.mark.slow),
    ("googlenet", {"auxiliary": True}),
    ("mlp", {}),
    ("simple_cnn", {}),
    ("inception_net", {}),
    ("residual_net", {}),
    ("resnet18", {"stem": "small"}),
    pytest.param("resnet50", {}, marks=pytest.mark.slow),
    ("resnet20", {}),
    ("preact_resnet110", {"depth": 20}),
    ("preact_resnet164", {"depth": 11, "shortcut": "exclusive_gating"}),
    ("preact_resnet164", {"depth": 11, "shortcut": "dropout"}),
    ("wide_resnet16_8", {"width": 1, "dropout": 0.3}),
    ("resnet9", {"width": 8}),
    ("densenet40", {"depth": 10}),
    ("densenet_bc100", {"depth": 16, "dropout": 0.2}),
    ("d2l_resnet18", {}),
    ("d2l_densenet", {}),
    pytest.param("d2l_resnext", {}, marks=pytest.mark.slow),
    ("d2l_regnetx", {}),
]


def make_both(name: str, **arguments: object) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """Return a float64 network, its reference implementation, and images for both."""
    torch.manual_seed(0)
    min_size = 65 if name in SENSITIVE or "auxiliary" in arguments else 8
    size = max(models.REGISTRY[name].min_image_size, min_size)
    network = models.build(name, image_size=size, **arguments).double()
    reference = copy.deepcopy(network)
    use_reference(reference)
    return network, reference, torch.randn(3, 1, size, size, dtype=torch.float64)


def run_step(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Return the logits, the gradients of all weights, and the buffers after the step."""
    torch.manual_seed(1)
    outputs = network(images)
    logits = torch.cat(outputs, 1) if isinstance(outputs, tuple) else outputs
    (logits * torch.linspace(-1, 2, logits.numel()).view_as(logits)).sum().backward()
    return [logits, *(parameter.grad for parameter in network.parameters()), *network.buffers()]


@pytest.mark.parametrize(("name", "arguments"), NETWORKS, ids=str)
def test_reference_network_has_the_same_logits_gradients_and_buffers(
    name: str, arguments: dict[str, object]
) -> None:
    network, reference, images = make_both(name, **arguments)
    for ours, theirs in zip(run_step(reference, images), run_step(network, images), strict=True):
        largest = theirs.abs().max().clamp_min(1.0)
        assert_close(ours / largest, theirs / largest, **EXACTLY)


def test_reference_network_is_the_same_in_evaluation() -> None:
    network, reference, images = make_both("bn_lenet")
    run_step(network, images)
    run_step(reference, images)
    assert_close(reference.eval()(images), network.eval()(images), **EXACTLY)


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_every_builtin_layer_has_a_twin_except_known_ones(name: str) -> None:
    with torch.device("meta"):
        network = models.build(name, image_size=max(models.REGISTRY[name].min_image_size, 32))
    layers = [layer for layer in network.modules() if not list(layer.children())]
    without_twin = {
        type(layer).__name__
        for layer in layers
        if not (isinstance(layer, nn.Sequential) or find_twin(layer))
    }
    assert without_twin <= WITHOUT_TWIN


def test_swap_keeps_parameters_buffers_names_and_hooks() -> None:
    network = models.build("bn_lenet")
    before = dict(network.state_dict(keep_vars=True))
    calls: list[str] = []
    for name, layer in network.named_modules():
        layer.register_forward_hook(lambda _layer, _inputs, _outputs, name=name: calls.append(name))
    use_reference(network)
    network(torch.randn(2, 1, 28, 28))
    after = dict(network.state_dict(keep_vars=True))
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert set(calls) == {name for name, _ in network.named_modules()}


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3, dilation=2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, dilation=2),
        nn.AvgPool2d(3, padding=1, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
    ],
    ids=str,
)
def test_layer_with_an_option_that_is_not_implemented_is_not_swapped(
    layer: nn.Module,
) -> None:
    network = nn.Sequential(layer, nn.ReLU())
    use_reference(network)
    assert [type(child) for child in network] == [type(layer), TWINS[nn.ReLU]]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Flatten(), (4, 2, 3, 3)),
        (nn.Identity(), (4, 3)),
        (nn.BatchNorm2d(2, affine=False), (4, 2, 3, 3)),
        (nn.Linear(3, 2), (4, 3)),
        (nn.Linear(3, 2), (4, 5, 3)),
        (nn.Conv2d(2, 2, 3), (4, 2, 3, 3)),
        (nn.MaxPool2d(2), (4, 2, 4, 4)),
        (nn.Dropout(0.5), (4, 3)),
    ],
    ids=str,
)
def test_layer_may_be_followed_by_an_inplace_layer(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(copy.deepcopy(layer), nn.ReLU(inplace=True)).double()
    reference = copy.deepcopy(network)
    use_reference(reference)
    values = torch.randn(*shape, dtype=torch.float64)

    def compute_gradient(network: nn.Module) -> torch.Tensor | None:
        inputs = values.clone().requires_grad_()
        torch.manual_seed(1)
        network(inputs * 1).square().sum().backward()
        return inputs.grad

    assert_close(compute_gradient(reference), compute_gradient(network), **EXACTLY)


def test_subclass_of_a_torch_layer_is_not_swapped() -> None:
    class CustomLinear(nn.Linear):
        pass

    network = nn.Sequential(CustomLinear(2, 2), nn.Linear(2, 2))
    use_reference(network)
    use_reference(network)  # A second swap changes nothing.
    assert [type(layer) for layer in network] == [CustomLinear, TWINS[nn.Linear]]
