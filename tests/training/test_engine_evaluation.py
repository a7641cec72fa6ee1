"""Evaluation: its metrics, and what it leaves unchanged."""

import copy

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.softmax_regression import (
    assert_metrics_close,
    compute_expected,
    measure_update,
)
from torch import nn
from torch.nn import functional

from cnnbench.config import Config
from cnnbench.data.device_data import Examples
from cnnbench.training.device import Device


@EACH_DEVICE
def test_evaluation_averages_over_examples_with_a_smaller_last_batch(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, device)
    expected, _, _ = compute_expected(linear_network, examples)
    assert_metrics_close(engine.evaluate(examples, batch_size=8), expected)


def test_evaluation_leaves_parameters_and_statistics_unchanged(
    sgd_config: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 4))
    engine = make_engine(network, sgd_config, device)
    engine.model.train()
    before = copy.deepcopy(engine.model.state_dict())
    engine.evaluate(examples, 8)
    torch.testing.assert_close(engine.model.state_dict(), before, rtol=0, atol=0)


def test_evaluation_leaves_train_metrics_unchanged(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, device)
    engine.train_step(examples.images, examples.labels)
    before = engine.train_metrics.compute()
    engine.evaluate(examples, 8)
    assert engine.train_metrics.compute() == before


def test_evaluation_computes_no_gradients(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, device)
    requires_grad: list[bool] = []
    linear_network.register_forward_hook(
        lambda _, __, output: requires_grad.append(output.requires_grad)
    )
    engine.evaluate(examples, 21)
    assert requires_grad == [False]


@EACH_DEVICE
def test_evaluation_disables_dropout(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    on_cpu = Examples(examples.images.cpu(), examples.labels.cpu())
    expected, _, _ = compute_expected(linear_network, on_cpu)
    engine = make_engine(nn.Sequential(nn.Dropout(0.9), *linear_network), sgd_config, device)
    engine.model.train()
    assert_metrics_close(engine.evaluate(examples, 8), expected)


def test_evaluation_does_not_augment_images(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, augment__hflip=True, augment__translate=1, augment__mixup=1.0)
    expected, _, _ = compute_expected(linear_network, examples)
    engine = make_engine(linear_network, sgd_config, device)
    assert_metrics_close(engine.evaluate(examples, 8), expected)


def test_tta_hflip_averages_logits_of_image_and_mirror_image(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, train__tta="hflip")
    images = examples.images / 255
    with torch.no_grad():
        logits = (linear_network(images) + linear_network(images.flip(-1))) / 2
    expected = functional.cross_entropy(logits, examples.labels).item()
    measured = make_engine(linear_network, sgd_config, device).evaluate(examples, 8)
    assert measured.loss == pytest.approx(expected, rel=1e-5)


def test_evaluation_uses_averaged_weights(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, train__ema_decay=1.0)  # the average stays at the initial weights
    expected, _, _ = compute_expected(linear_network, examples)
    engine = make_engine(linear_network, sgd_config, device)
    measure_update(engine, examples)
    assert_metrics_close(engine.evaluate(examples, 8), expected)
