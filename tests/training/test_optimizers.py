"""Optimizers have the class, hyperparameters and first steps of PyTorch's."""

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

CASES = [
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
EACH_OPTIMIZER = pytest.mark.parametrize(
    ("config", "optimizer_class", "settings"), CASES, ids=[config.name for config, _, _ in CASES]
)


def load_yaml(path: Path, config: Config) -> OptimizerConfig:
    """Return the optimizer of a YAML, in an otherwise small configuration."""
    values = {**as_dict(config), "optimizer": OmegaConf.load(path)}
    return configuration.load_config(configuration.to_plain(OmegaConf.create(values))).optimizer


def test_all_optimizers_are_tested() -> None:
    assert {config.name for config, _, _ in CASES} == set(allowed_by(OptimizerConfig).choices)


@EACH_OPTIMIZER
def test_name_selects_the_optimizer_class(
    config: OptimizerConfig, optimizer_class: type[Optimizer], settings: dict[str, Any]
) -> None:
    made = type(make_optimizer(config, [nn.Parameter(torch.zeros(2, 3))], CPU))
    assert optimizer_class in (made, *made.__bases__)  # not issubclass: AdamW is an Adam


@EACH_OPTIMIZER
def test_optimizer_gets_its_hyperparameters(
    config: OptimizerConfig, optimizer_class: type[Optimizer], settings: dict[str, Any]
) -> None:
    expected = {"lr": 0.2, "weight_decay": 0.01, **settings}
    group = make_optimizer(config, [nn.Parameter(torch.zeros(2, 3))], CPU).param_groups[0]
    assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_is_named_after_its_optimizer(path: Path, config: Config) -> None:
    assert load_yaml(path, config).name == path.stem


@EACH_DEVICE
@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_minimizes_a_square(path: Path, config: Config, device: Device) -> None:
    point = nn.Parameter(torch.tensor([[1.0, -2.0]], device=device.torch_device))
    optimizer = make_optimizer(load_yaml(path, config), [point], device.torch_device)
    losses = []
    for _ in range(20):
        loss = point.square().sum()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


@EACH_DEVICE
@pytest.mark.parametrize("config_class", [MomentumConfig, NesterovConfig])
def test_overflowing_gradients_in_the_first_step_leave_momentum_at_zero(
    config_class: type[SgdConfig], device: Device
) -> None:
    weights = nn.Parameter(torch.ones(1000, device=device.torch_device))
    config = config_class(lr=0.1, momentum=0.9, weight_decay=0.0)
    optimizer = make_optimizer(config, [weights], device.torch_device)
    scaler = torch.amp.GradScaler(device.torch_device.type)
    before = weights.detach().clone()
    scaler.scale((weights * torch.inf).sum()).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    assert not optimizer.state[weights]["momentum_buffer"].any()
    assert torch.equal(weights, before)


@EACH_OPTIMIZER
def test_first_steps_equal_pytorch(
    config: OptimizerConfig, optimizer_class: type[Optimizer], settings: dict[str, Any]
) -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3)) for _ in range(2))
    made = make_optimizer(config, [ours], CPU)
    group = made.param_groups[0]
    names = inspect.signature(optimizer_class).parameters.keys() & group.keys() - {"params"}
    expected = optimizer_class([theirs], **{name: group[name] for name in names})
    for weights, optimizer in ((ours, made), (theirs, expected)):
        for _ in range(3):
            weights.grad = weights.detach().square()
            optimizer.step()
    assert torch.equal(ours, theirs)


@EACH_OPTIMIZER
def test_state_dict_loads_into_the_pytorch_optimizer(
    config: OptimizerConfig, optimizer_class: type[Optimizer], settings: dict[str, Any]
) -> None:
    weights = nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3))
    made = make_optimizer(config, [weights], CPU)
    weights.grad = weights.detach().square()
    made.step()
    loaded = optimizer_class([weights], lr=0.5)  # type: ignore[call-arg]
    loaded.load_state_dict(made.state_dict())
    assert str(loaded.state_dict()) == str(made.state_dict())


def test_weights_of_a_compiled_network_are_updated() -> None:
    network = nn.Linear(2, 3)
    config = SgdConfig(lr=0.1, momentum=0.0, weight_decay=0.0)
    optimizer = make_optimizer(config, network.parameters(), CPU)
    compiled = torch.compile(network, backend="eager")
    for _ in range(2):
        before = network.weight.detach().clone()
        compiled(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.allclose(network.weight, before - 0.1)


def test_parameters_may_come_from_a_generator() -> None:
    config = SgdConfig(lr=0.1, momentum=0.0, weight_decay=0.0)
    optimizer = make_optimizer(config, nn.Linear(2, 3).parameters(), CPU)
    assert len(optimizer.param_groups[0]["params"]) == 2


def test_set_lr_multiplies_the_initial_lr_of_every_group() -> None:
    optimizer = SGD(
        [{"params": [nn.Parameter(torch.zeros(1))]}, {"params": [nn.Parameter(torch.zeros(1))]}],
        lr=0.1,
    )
    for group, initial in zip(optimizer.param_groups, (0.1, 0.4), strict=True):
        group["initial_lr"] = initial
    set_lr([optimizer], 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.2]


def test_muon_uses_the_fallback_for_biases_and_classifier() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    hidden, bias, *classifier = network.parameters()
    config = MuonConfig(lr=0.2, momentum=0.7, weight_decay=0.0, fallback="sgd", fallback_lr=0.05)
    muon, fallback = make_optimizers(config, network, CPU)
    assert (type(muon).__bases__, muon.param_groups[0]["params"]) == ((Muon,), [hidden])
    assert fallback.param_groups[0]["params"] == [bias, *classifier]
    assert muon.param_groups[0]["initial_lr"] == 0.2
    assert fallback.param_groups[0]["initial_lr"] == 0.05


def test_muon_without_a_hidden_layer_is_only_the_fallback() -> None:
    config = MuonConfig(lr=0.2, momentum=0.7, weight_decay=0.0, fallback="adamw", fallback_lr=0.05)
    (fallback,) = make_optimizers(config, nn.Linear(4, 3), CPU)
    assert isinstance(fallback, AdamW)
