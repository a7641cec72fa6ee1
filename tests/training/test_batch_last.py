"""Batch last: the numbers of PyTorch's layers, used where it was measured to be faster."""

import copy
from collections.abc import Callable
from unittest.mock import Mock

import pytest
import torch
from helpers.config_changes import change
from torch import nn

from cnnbench import models
from cnnbench.config import Config
from cnnbench.data.catalog import get
from cnnbench.training import batch_last
from cnnbench.training.batch_last import BatchLastSequential, split_units, uses_batch_last
from cnnbench.training.build import build_engine, describe_engine

NETWORKS = {
    "lenet": {},
    "lenet_relu": {},
    "bn_lenet": {},
    "lenet with tanh and max pooling": {"activation": "tanh", "pooling": "max"},
}
IMAGES = torch.rand(128, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def make_features(description: str) -> nn.Sequential:
    """Return the convolutional part of a network in fp64."""
    torch.manual_seed(0)
    network = models.build(description.split()[0], 1, 10, 28, **NETWORKS[description])
    features = network.double().features
    assert isinstance(features, nn.Sequential)
    return features


def make_batch_last(features: nn.Sequential) -> BatchLastSequential:
    """Return a copy that is computed batch last, also in evaluation."""
    copied = copy.deepcopy(features)
    copied.__class__ = BatchLastSequential
    assert isinstance(copied, BatchLastSequential)
    return copied


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> int:
    """Set the number of threads. 128 examples are divided among two, not among five."""
    torch.set_num_threads(request.param)
    return int(request.param)


@pytest.mark.parametrize("description", NETWORKS)
def test_training_equals_pytorch(description: str, threads: int) -> None:
    plain = make_features(description)
    ours = make_batch_last(plain)
    outputs = [features(IMAGES) for features in (plain, ours)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-9, atol=1e-9)
    for result in outputs:
        (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
    for (name, expected), value in zip(plain.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(value.grad, expected.grad, rtol=1e-7, atol=1e-9, msg=name)
    for (name, expected), value in zip(plain.named_buffers(), ours.buffers(), strict=True):
        torch.testing.assert_close(value, expected, msg=name)


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    plain = make_features("bn_lenet")
    plain(IMAGES)  # statistics to use
    for module in plain.modules():
        module.train(not isinstance(module, nn.BatchNorm2d))
    plain.training = True
    ours = make_batch_last(plain)
    statistics = copy.deepcopy(dict(ours.named_buffers()))
    torch.testing.assert_close(ours(IMAGES), plain(IMAGES), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(value, statistics[name]) for name, value in ours.named_buffers())


@pytest.mark.parametrize("description", NETWORKS)
def test_evaluation_in_bf16_is_as_exact_as_pytorch(description: str) -> None:
    exact = make_features(description)
    exact(IMAGES)
    exact.eval()
    reference = exact(IMAGES)
    plain = copy.deepcopy(exact).float()
    with torch.autocast("cpu", torch.bfloat16):
        errors = [
            (features(IMAGES.float()).double() - reference).abs().max().item()
            for features in (plain, make_batch_last(plain))
        ]
    assert errors[1] <= 2 * errors[0]


@pytest.fixture
def is_batch_last(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Return a function that returns whether features compute images batch last."""
    run = Mock(wraps=batch_last._run)
    monkeypatch.setattr(batch_last, "_run", run)

    def computes(features: nn.Module, images: torch.Tensor) -> bool:
        run.reset_mock()
        features(images)
        return bool(run.call_args.args[0]) if run.called else False

    return computes


def test_few_examples_large_images_and_hooks_are_left_to_pytorch(
    is_batch_last: Callable[..., bool],
) -> None:
    ours = make_batch_last(make_features("lenet"))
    assert is_batch_last(ours, IMAGES)
    assert not is_batch_last(ours, IMAGES[:127])
    assert not is_batch_last(ours, torch.zeros(128, 1, 65, 65, dtype=torch.float64))
    seen = []
    handle = ours[0].register_forward_hook(lambda *args: seen.append(args[-1].shape))
    assert not is_batch_last(ours, IMAGES)
    assert seen == [(128, 6, 28, 28)]
    handle.remove()
    assert is_batch_last(ours, IMAGES)
    assert not is_batch_last(ours.eval(), IMAGES)  # in evaluation only 16 bits gain by it


def test_replaced_layer_ends_the_units() -> None:
    features = make_features("bn_lenet")
    features[5] = nn.SyncBatchNorm(16)
    units, layers = split_units(list(features), in_bf16=False)
    assert [unit.conv for unit in units] == [features[0]]
    assert layers == list(features[4:])


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 11, 5), nn.MaxPool2d(2)],  # too many channels for the first convolution
        [nn.Conv2d(1, 6, 5, stride=2), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, (5, 3)), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5, padding="same"), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5, padding=2, padding_mode="reflect"), nn.MaxPool2d(2)],
        [nn.Conv2d(2, 6, 5, groups=2), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5, dilation=2), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5), nn.ReLU()],
        [nn.Conv2d(1, 6, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5), nn.GELU(), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5), nn.MaxPool2d(3)],
        [nn.Conv2d(1, 6, 5), nn.MaxPool2d(2, stride=1)],
        [nn.Conv2d(1, 6, 5), nn.MaxPool2d(2, padding=1)],
        [nn.Conv2d(1, 6, 5), nn.MaxPool2d(2, ceil_mode=True)],
        [nn.Conv2d(1, 6, 5), nn.AvgPool2d(2, divisor_override=3)],
        [nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6, momentum=None), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6, affine=False), nn.MaxPool2d(2)],
    ],
)
@pytest.mark.parametrize("in_bf16", [False, True])
def test_other_layers_are_left_to_pytorch(layers: list[nn.Module], in_bf16: bool) -> None:
    assert split_units(layers, in_bf16) == ([], layers)


@pytest.mark.parametrize(
    ("in_bf16", "channels", "expected"),
    [
        (False, (8, 16), 2),
        (False, (8, 17), 1),
        (False, (9, 16), 0),
        (True, (10, 20), 2),
        (True, (10, 21), 1),
        (True, (11, 20), 0),
    ],
)
def test_more_channels_end_the_units(
    in_bf16: bool, channels: tuple[int, int], expected: int
) -> None:
    first, second = channels
    layers = [nn.Conv2d(1, first, 5), nn.MaxPool2d(2), nn.Conv2d(first, second, 5), nn.MaxPool2d(2)]
    units, _ = split_units(layers, in_bf16)
    assert len(units) == expected


@pytest.mark.parametrize(
    ("model", "precision", "channels_last", "batch_size", "expected"),
    [
        ("lenet", "bf16", "auto", 128, True),
        ("lenet", "bf16", "auto", 127, False),
        ("lenet", "fp32", "auto", 256, True),
        ("bn_lenet", "fp32", "auto", 256, True),
        ("bn_lenet", "fp32", "auto", 127, False),
        ("bn_lenet", "bf16", True, 256, False),
        ("bn_lenet", "bf16", False, 256, False),
        ("simple_cnn", "bf16", "auto", 256, True),
        ("simple_cnn", "fp32", "auto", 256, False),
        ("strided_cnn", "bf16", "auto", 256, False),
    ],
)
def test_engine_uses_it_where_it_is_faster(
    config: Config,
    model: str,
    precision: str,
    channels_last: object,
    batch_size: int,
    expected: bool,
) -> None:
    change(config, train__batch_size=batch_size)
    change(config, model__name=model, model__arguments={}, data__resize=28)
    change(config, device__precision=precision, device__channels_last=channels_last)
    engine = build_engine(config, get("sample"))
    assert uses_batch_last(engine.model) is expected
    assert describe_engine(engine)["batch_last"] is expected
    names = models.build(model, 1, 10, 28).state_dict().keys()
    assert engine.model.state_dict().keys() == names
