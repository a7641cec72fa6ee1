"""Networks of the zoo by hand: which layers are swapped, and that the numbers stay."""

import copy

import pytest
import torch
from helpers.network_names import EVERY_NETWORK
from helpers.random_tensors import EXACTLY
from torch import nn
from torch.testing import assert_close

from cnnbench import models
from cnnbench.reference.swap import TWINS, twin_of, use_reference

ALONE = {"ConstantPad3d"}  # there is none by hand

SENSITIVE = ("resnet50", "d2l_resnext")  # to rounding, if batch normalisation has few pixels

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


def both(name: str, **arguments: object) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """A network in float64, what it is by hand, and images for it."""
    torch.manual_seed(0)
    least = 65 if name in SENSITIVE or "auxiliary" in arguments else 8
    size = max(models.REGISTRY[name].min_image_size, least)
    network = models.build(name, image_size=size, **arguments).double()
    by_hand = copy.deepcopy(network)
    use_reference(by_hand)
    return network, by_hand, torch.randn(3, 1, size, size, dtype=torch.float64)


def passed(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Logits, the gradients of all weights for a mixture of them, and the buffers after it."""
    torch.manual_seed(1)
    outputs = network(images)
    logits = torch.cat(outputs, 1) if isinstance(outputs, tuple) else outputs
    (logits * torch.linspace(-1, 2, logits.numel()).view_as(logits)).sum().backward()
    return [logits, *(parameter.grad for parameter in network.parameters()), *network.buffers()]


@pytest.mark.parametrize(("name", "arguments"), NETWORKS, ids=str)
def test_a_network_by_hand_has_the_same_logits_gradients_and_statistics(
    name: str, arguments: dict[str, object]
) -> None:
    network, by_hand, images = both(name, **arguments)
    for ours, theirs in zip(passed(by_hand, images), passed(network, images), strict=True):
        largest = theirs.abs().max().clamp_min(1.0)
        assert_close(ours / largest, theirs / largest, **EXACTLY)


def test_evaluation_is_the_same_by_hand() -> None:
    network, by_hand, images = both("bn_lenet")
    passed(network, images), passed(by_hand, images)
    assert_close(by_hand.eval()(images), network.eval()(images), **EXACTLY)


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_every_layer_of_the_zoo_has_a_twin_but_those_that_are_known_to_have_none(name: str) -> None:
    with torch.device("meta"):
        network = models.build(name, image_size=max(models.REGISTRY[name].min_image_size, 32))
    innermost = [
        each
        for each in network.modules()
        if not (list(each.children()) or isinstance(each, nn.Sequential))
    ]
    assert {type(layer).__name__ for layer in innermost if twin_of(layer) is None} <= ALONE


def test_parameters_buffers_names_and_hooks_stay() -> None:
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
def test_a_layer_with_an_option_that_is_not_written_by_hand_stays_as_it_is(
    layer: nn.Module,
) -> None:
    network = nn.Sequential(layer, nn.ReLU())
    use_reference(network)
    assert [type(each) for each in network] == [type(layer), TWINS[nn.ReLU]]


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
def test_what_follows_a_layer_may_work_in_place(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(copy.deepcopy(layer), nn.ReLU(inplace=True)).double()
    by_hand = copy.deepcopy(network)
    use_reference(by_hand)
    given = torch.randn(*shape, dtype=torch.float64)
    gradients = []
    for each in (by_hand, network):
        inputs = given.clone().requires_grad_()
        torch.manual_seed(1)
        each(inputs * 1).square().sum().backward()
        gradients.append(inputs.grad)
    assert_close(gradients[0], gradients[1], **EXACTLY)


def test_a_layer_is_swapped_once_and_a_kind_of_ones_own_is_left() -> None:
    class Mine(nn.Linear):
        pass

    network = nn.Sequential(Mine(2, 2), nn.Linear(2, 2))
    use_reference(network)
    use_reference(network)
    assert [type(layer) for layer in network] == [Mine, TWINS[nn.Linear]]
