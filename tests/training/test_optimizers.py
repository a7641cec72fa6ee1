"""The optimizers: PyTorch's class and hyperparameters for each name."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.devices import EACH_DEVICE
from helpers.paths import CONF
from omegaconf import OmegaConf
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from cnnbench import config as configuration
from cnnbench.config import (
    AdagradConfig,
    AdamConfig,
    AdamWConfig,
    Config,
    MomentumConfig,
    MuonConfig,
    NesterovConfig,
    OptimizerConfig,
    RMSpropConfig,
    SgdConfig,
    as_dict,
)
from cnnbench.config.fields import allowed_by
from cnnbench.training.device import Device
from cnnbench.training.muon import Muon
from cnnbench.training.optimizers import make_optimizer, make_optimizers, set_lr

YAMLS = sorted((CONF / "optimizer").glob("*.yaml"))
CPU = torch.device("cpu")

MADE = [
    (SgdConfig(lr=0.2, momentum=0.0, weight_decay=0.01), SGD, {"momentum": 0.0, "nesterov": False}),
    (
        MomentumConfig(lr=0.2, momentum=0.7, weight_decay=0.01),
        SGD,
        {"momentum": 0.7, "nesterov": False},
    ),
    (
        NesterovConfig(lr=0.2, momentum=0.7, weight_decay=0.01),
        SGD,
        {"momentum": 0.7, "nesterov": True},
    ),
    (AdagradConfig(lr=0.2, eps=1e-6, weight_decay=0.01), Adagrad, {"eps": 1e-6}),
    (
        AdamConfig(lr=0.2, betas=[0.8, 0.95], eps=1e-6, weight_decay=0.01),
        Adam,
        {"betas": (0.8, 0.95), "eps": 1e-6},
    ),
    (
        AdamWConfig(lr=0.2, betas=[0.8, 0.95], eps=1e-6, weight_decay=0.01),
        AdamW,
        {"betas": (0.8, 0.95), "eps": 1e-6},
    ),
    (
        RMSpropConfig(lr=0.2, alpha=0.9, eps=1e-6, momentum=0.7, weight_decay=0.01),
        RMSprop,
        {"alpha": 0.9, "eps": 1e-6, "momentum": 0.7, "centered": False},
    ),
    (
        MuonConfig(lr=0.2, momentum=0.7, weight_decay=0.01, fallback="sgd", fallback_lr=0.05),
        Muon,
        {"momentum": 0.7},
    ),
]
BY_NAME = pytest.mark.parametrize(
    ("config", "kind", "own"), MADE, ids=[config.name for config, _, _ in MADE]
)


def load(path: Path, config: Config) -> OptimizerConfig:
    """The optimizer of a YAML, in an otherwise small configuration."""
    values = {**as_dict(config), "optimizer": OmegaConf.load(path)}
    return configuration.load(configuration.to_plain(OmegaConf.create(values))).optimizer


def test_every_name_is_tried_here() -> None:
    assert {config.name for config, _, _ in MADE} == set(allowed_by(OptimizerConfig).choices)


@BY_NAME
def test_the_name_makes_its_class(
    config: OptimizerConfig, kind: type[Optimizer], own: dict[str, Any]
) -> None:
    made = make_optimizer(config, [nn.Parameter(torch.zeros(2, 3))], CPU)
    assert kind in (type(made), *type(made).__bases__)  # not isinstance: AdamW is an Adam


@BY_NAME
def test_the_class_gets_its_hyperparameters(
    config: OptimizerConfig, kind: type[Optimizer], own: dict[str, Any]
) -> None:
    wanted = {"lr": 0.2, "weight_decay": 0.01, **own}
    group = make_optimizer(config, [nn.Parameter(torch.zeros(2, 3))], CPU).param_groups[0]
    assert {key: group[key] for key in wanted} == wanted


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_loads_as_the_optimizer_of_its_name(path: Path, config: Config) -> None:
    loaded = load(path, config)
    assert loaded.name == path.stem


@EACH_DEVICE
@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_lowers_a_square(path: Path, config: Config, device: Device) -> None:
    point = nn.Parameter(torch.tensor([[1.0, -2.0]], device=device.torch_device))
    optimizer = make_optimizer(load(path, config), [point], device.torch_device)
    losses = []
    for _ in range(20):
        loss = point.square().sum()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


@EACH_DEVICE
@pytest.mark.parametrize("kind", [MomentumConfig, NesterovConfig])
def test_gradients_that_overflow_in_the_first_step_leave_the_momentum_at_zero(
    kind: type[SgdConfig], device: Device
) -> None:
    weights = nn.Parameter(torch.ones(1000, device=device.torch_device))
    optimizer = make_optimizer(
        kind(lr=0.1, momentum=0.9, weight_decay=0.0), [weights], device.torch_device
    )
    scaler = torch.amp.GradScaler(device.torch_device.type)
    before = weights.detach().clone()
    scaler.scale((weights * torch.inf).sum()).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    assert not optimizer.state[weights]["momentum_buffer"].any()
    assert torch.equal(weights, before)


@BY_NAME
def test_the_first_steps_are_those_of_pytorch(
    config: OptimizerConfig, kind: type[Optimizer], own: dict[str, Any]
) -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3)) for _ in range(2))
    made = make_optimizer(config, [ours], CPU)
    settings = made.param_groups[0]
    options = {
        name: settings[name]
        for name in inspect.signature(kind).parameters
        if name in settings.keys() - {"params"}
    }
    for weights, optimizer in ((ours, made), (theirs, kind([theirs], **options))):
        for _ in range(3):
            weights.grad = weights.detach().square()
            optimizer.step()
    assert torch.equal(ours, theirs)


@BY_NAME
def test_the_state_goes_into_pytorchs_own_optimizer(
    config: OptimizerConfig, kind: type[Optimizer], own: dict[str, Any]
) -> None:
    weights = nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3))
    made = make_optimizer(config, [weights], CPU)
    weights.grad = weights.detach().square()
    made.step()
    taken = kind([weights], lr=0.5)  # type: ignore[call-arg]  # which every one of them takes
    taken.load_state_dict(made.state_dict())
    assert str(taken.state_dict()) == str(made.state_dict())


def test_the_weights_of_a_compiled_network_are_updated() -> None:
    network = nn.Linear(2, 3)
    optimizer = make_optimizer(
        SgdConfig(lr=0.1, momentum=0.0, weight_decay=0.0), network.parameters(), CPU
    )
    compiled = torch.compile(network, backend="eager")
    for _ in range(2):
        before = network.weight.detach().clone()
        compiled(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.allclose(network.weight, before - 0.1)


def test_parameters_may_come_from_a_generator() -> None:
    network = nn.Linear(2, 3)
    optimizer = make_optimizer(
        SgdConfig(lr=0.1, momentum=0.0, weight_decay=0.0), network.parameters(), CPU
    )
    assert len(optimizer.param_groups[0]["params"]) == 2


def test_a_factor_multiplies_the_initial_learning_rate_of_every_group() -> None:
    optimizer = SGD(
        [{"params": [nn.Parameter(torch.zeros(1))]}, {"params": [nn.Parameter(torch.zeros(1))]}],
        lr=0.1,
    )
    for group, initial in zip(optimizer.param_groups, (0.1, 0.4), strict=True):
        group["initial_lr"] = initial
    set_lr([optimizer], 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.2]


def test_muon_leaves_biases_and_the_classifier_to_an_optimizer_of_their_own() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    hidden, bias, *classifier = network.parameters()
    muon, rest = make_optimizers(
        MuonConfig(lr=0.2, momentum=0.7, weight_decay=0.0, fallback="sgd", fallback_lr=0.05),
        network,
        CPU,
    )
    assert (type(muon), muon.param_groups[0]["params"]) == (Muon, [hidden])
    assert rest.param_groups[0]["params"] == [bias, *classifier]
    assert [each.param_groups[0]["initial_lr"] for each in (muon, rest)] == [0.2, 0.05]


def test_muon_without_a_hidden_layer_is_the_other_optimizer_alone() -> None:
    (rest,) = make_optimizers(
        MuonConfig(lr=0.2, momentum=0.7, weight_decay=0.0, fallback="adamw", fallback_lr=0.05),
        nn.Linear(4, 3),
        CPU,
    )
    assert isinstance(rest, AdamW)
