"""Training steps in half precision: types, gradient scaling and accuracy."""

from dataclasses import replace

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.softmax_regression import compute_expected, measure_update
from torch import nn

from cnnbench.config import (
    AdagradConfig,
    AdamConfig,
    Config,
    MomentumConfig,
    OptimizerConfig,
    RMSpropConfig,
)
from cnnbench.data.device_data import Examples
from cnnbench.training.device import Device

LR = 0.1  # the learning rate of the fixture sgd_config


@pytest.mark.parametrize(
    ("precision", "is_scaled"), [("fp32", False), ("bf16", False), ("fp16", True)]
)
def test_only_fp16_uses_a_gradient_scaler(
    precision: str,
    is_scaled: bool,
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, replace(device, precision=precision))
    assert engine.scaler.is_enabled() is is_scaled


@EACH_DEVICE
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_layers_compute_in_half_precision(
    precision: str,
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    device = replace(device, precision=precision)
    engine = make_engine(linear_network, sgd_config, device)
    dtypes: list[torch.dtype] = []
    linear_network.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    engine.train_step(examples.images, examples.labels)
    assert dtypes == [device.autocast_dtype]


@EACH_DEVICE
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sgd_step_in_half_precision_is_near_the_computed_one(
    precision: str,
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, replace(device, precision=precision))
    _, weight_gradient, _ = compute_expected(linear_network, examples)
    weight, _ = measure_update(engine, examples)
    torch.testing.assert_close(weight, -LR * weight_gradient, rtol=0.02, atol=2e-4)


@EACH_DEVICE
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(
    "optimizer",
    [
        MomentumConfig(lr=0.05, momentum=0.9, weight_decay=0.0),
        AdagradConfig(lr=0.01, eps=1e-10, weight_decay=0.0),
        AdamConfig(lr=0.001, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0),
        RMSpropConfig(lr=0.001, alpha=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0),
    ],
    ids=lambda config: config.name,
)
def test_half_precision_keeps_parameters_finite_and_float32(
    optimizer: OptimizerConfig,
    precision: str,
    config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))
    change(config, optimizer=optimizer)
    engine = make_engine(network, config, replace(device, precision=precision))
    for _ in range(5):
        engine.train_step(examples.images, examples.labels)
    for parameter in network.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.isfinite().all()


@EACH_DEVICE
def test_gradients_too_small_for_fp16_are_scaled(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, optimizer__lr=1e9)
    engine = make_engine(linear_network, sgd_config, replace(device, precision="fp16"))
    loss = engine.loss
    engine.loss = lambda logits, labels: 1e-9 * loss(logits, labels)
    weight, _ = measure_update(engine, examples)
    assert weight.any(dim=0).all()


def test_gradients_in_fp16_are_unscaled_before_clipping(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, train__grad_clip_norm=0.01)
    engine = make_engine(linear_network, sgd_config, replace(device, precision="fp16"))
    weight, bias = measure_update(engine, examples)
    norm = (weight.square().sum() + bias.square().sum()).sqrt().item()
    assert norm == pytest.approx(LR * 0.01, rel=1e-2)
