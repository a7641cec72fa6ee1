"""Steps with a non-finite loss are skipped if train.on_nonfinite_loss=skip."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.softmax_regression import compute_expected, measure_update
from torch import nn

from cnnbench.config import Config
from cnnbench.data.device_data import Examples
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine

EACH_PRECISION = pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])


@pytest.fixture
def skipping_config(sgd_config: Config) -> Config:
    """Return gradient descent that skips steps with a non-finite loss."""
    change(sgd_config, train__on_nonfinite_loss="skip")
    return sgd_config


def set_nan_loss_at(engine: EagerEngine, step: int) -> None:
    """Make the loss NaN at a step, counted from 1."""
    finite_loss, count = engine.loss, 0

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        return finite_loss(logits, targets) * (torch.nan if count == step else 1.0)

    engine.loss = loss


@EACH_DEVICE
@EACH_PRECISION
def test_step_with_nonfinite_loss_is_skipped(
    precision: str,
    linear_network: nn.Sequential,
    skipping_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, skipping_config, replace(device, precision=precision))
    set_nan_loss_at(engine, 1)
    weight, bias = measure_update(engine, examples)
    assert not weight.any()
    assert not bias.any()


@EACH_PRECISION
def test_skipped_step_leaves_statistics_and_momentum_unchanged(
    precision: str,
    skipping_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(skipping_config, optimizer__momentum=0.9)
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 4))
    engine = make_engine(network, skipping_config, replace(device, precision=precision))
    set_nan_loss_at(engine, 2)
    engine.train_step(examples.images, examples.labels)
    weights = copy.deepcopy(network.state_dict())
    states = list(engine.optimizers[0].state.values())
    momenta = [state["momentum_buffer"].clone() for state in states]
    engine.train_step(examples.images, examples.labels)
    torch.testing.assert_close(network.state_dict(), weights, rtol=0, atol=0)
    for state, momentum in zip(states, momenta, strict=True):
        assert torch.equal(state["momentum_buffer"], momentum)


def test_skipped_examples_are_counted_and_excluded_from_the_mean_loss(
    linear_network: nn.Sequential,
    skipping_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, skipping_config, device)
    expected, _, _ = compute_expected(linear_network, examples)
    set_nan_loss_at(engine, 2)
    for _ in range(2):
        engine.train_step(examples.images, examples.labels, weight=0.0)
    metrics = engine.train_metrics.compute()
    assert (metrics.loss, metrics.num_nonfinite) == (pytest.approx(expected.loss, rel=1e-5), 21)


def test_loss_is_nan_if_all_steps_are_skipped(
    linear_network: nn.Sequential,
    skipping_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, skipping_config, device)
    set_nan_loss_at(engine, 1)
    engine.train_step(examples.images, examples.labels)
    assert math.isnan(engine.train_metrics.compute().loss)


def test_step_with_finite_loss_has_the_same_bits_with_and_without_skipping(
    linear_network: nn.Sequential,
    skipping_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(copy.deepcopy(linear_network), skipping_config, device)
    skipping = measure_update(engine, examples)
    change(skipping_config, train__on_nonfinite_loss="stop")
    stopping = measure_update(make_engine(linear_network, skipping_config, device), examples)
    assert all(map(torch.equal, stopping, skipping))
