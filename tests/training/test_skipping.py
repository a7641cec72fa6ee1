"""Steps without a finite loss are left out, if train.on_nonfinite_loss=skip asks for it."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.softmax_regression import compute_expected, measure_update
from torch import nn

from cnnbench.config import Config, SgdConfig
from cnnbench.data.device_data import Examples
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


@pytest.fixture
def plain(config: Config) -> Config:
    """Gradient descent that skips."""
    change(config, optimizer=SgdConfig(lr=0.1, momentum=0.0, weight_decay=0.0))
    change(config, train__on_nonfinite_loss="skip")
    return config


def nan_at(engine: EagerEngine, step: int) -> None:
    """Let the loss be NaN at a step, counted from 1."""
    whole, count = engine.loss, 0

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        return whole(logits, targets) * (torch.nan if count == step else 1.0)

    engine.loss = loss


SKIPPED_IN = pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])


@EACH_DEVICE
@SKIPPED_IN
def test_a_step_without_a_finite_loss_is_skipped_if_that_is_asked_for(
    precision: str,
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, replace(device, precision=precision))
    nan_at(engine, 1)
    assert not any(change.any() for change in measure_update(engine, examples))


@SKIPPED_IN
def test_skipped_steps_leave_statistics_and_momentum_alone(
    precision: str, plain: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> None:
    change(plain, optimizer__momentum=0.9)
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 4))
    engine = make_engine(network, plain, replace(device, precision=precision))
    nan_at(engine, 2)
    engine.train_step(examples.images, examples.labels)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    momenta = [state["momentum_buffer"].clone() for state in engine.optimizers[0].state.values()]
    engine.train_step(examples.images, examples.labels)
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())
    assert all(
        map(
            torch.equal,
            momenta,
            [state["momentum_buffer"] for state in engine.optimizers[0].state.values()],
        )
    )


def test_what_is_skipped_is_counted_and_not_in_the_mean_loss(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    expected, _, _ = compute_expected(network, examples)
    nan_at(engine, 2)
    for _ in range(2):
        engine.train_step(examples.images, examples.labels, weight=0.0)
    metrics = engine.train_metrics.compute()
    assert (metrics.loss, metrics.num_nonfinite) == (pytest.approx(expected.loss, rel=1e-5), 21)


def test_if_all_is_skipped_there_is_no_loss(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    nan_at(engine, 1)
    engine.train_step(examples.images, examples.labels)
    assert math.isnan(engine.train_metrics.compute().loss)


def test_steps_that_are_not_skipped_are_the_same_to_the_bit(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    skipping = measure_update(make_engine(copy.deepcopy(network), plain, device), examples)
    change(plain, train__on_nonfinite_loss="stop")
    assert all(
        map(torch.equal, measure_update(make_engine(network, plain, device), examples), skipping)
    )
