"""Training steps, against softmax regression computed without PyTorch's autograd."""

import itertools
from dataclasses import replace
from functools import partial

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
from cnnbench.training.engine import endless_steps

LR = 0.1  # the learning rate of the fixture sgd_config
assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-6)


@EACH_DEVICE
def test_train_metrics_average_over_examples_with_a_smaller_last_batch(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, optimizer__lr=0.0)
    engine = make_engine(linear_network, sgd_config, device)
    for images, labels in examples.batches_in_order(8):
        engine.train_step(images, labels)
    expected, _, _ = compute_expected(linear_network, examples)
    assert_metrics_close(engine.train_metrics.compute(), expected)


def test_reset_clears_train_metrics(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, optimizer__lr=0.0)
    engine = make_engine(linear_network, sgd_config, device)
    engine.train_step(examples.images, torch.zeros_like(examples.labels))
    engine.train_metrics.reset()
    engine.train_step(examples.images, examples.labels)
    expected, _, _ = compute_expected(linear_network, examples)
    assert_metrics_close(engine.train_metrics.compute(), expected)


@EACH_DEVICE
def test_sgd_step_is_the_computed_gradient_times_lr(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, device)
    _, weight_gradient, bias_gradient = compute_expected(linear_network, examples)
    weight, bias = measure_update(engine, examples)
    assert_close(weight, -LR * weight_gradient)
    assert_close(bias, -LR * bias_gradient)


def test_gradients_do_not_accumulate_over_steps(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, device)
    measure_update(engine, examples)
    _, weight_gradient, _ = compute_expected(linear_network, examples)
    assert_close(measure_update(engine, examples)[0], -LR * weight_gradient)


def test_weight_of_a_step_scales_its_update(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, device)
    _, weight_gradient, _ = compute_expected(linear_network, examples)
    weight, _ = measure_update(engine, examples, weight=0.25)
    assert_close(weight, -LR * 0.25 * weight_gradient)


def test_weight_of_a_step_does_not_scale_the_reported_loss(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, device)
    expected, _, _ = compute_expected(linear_network, examples)
    measure_update(engine, examples, weight=0.25)
    assert_metrics_close(engine.train_metrics.compute(), expected)


@EACH_DEVICE
def test_l1_penalty_shrinks_weights_but_not_biases(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, train__l1=0.05)
    engine = make_engine(linear_network, sgd_config, device)
    _, weight_gradient, bias_gradient = compute_expected(linear_network, examples)
    signs = linear_network[1].weight.detach().sign()
    weight, bias = measure_update(engine, examples)
    assert_close(weight, -LR * (weight_gradient + 0.05 * signs))
    assert_close(bias, -LR * bias_gradient)


class WithAuxiliary(nn.Module):
    """A network whose auxiliary classifier, in training only, gives the same logits."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        logits: torch.Tensor = self.network(images)
        return (logits, logits) if self.training else logits


@EACH_DEVICE
def test_auxiliary_loss_has_weight_0_3(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(WithAuxiliary(linear_network), sgd_config, device)
    _, weight_gradient, _ = compute_expected(linear_network, examples)
    before = linear_network[1].weight.detach().clone()
    engine.train_step(examples.images, examples.labels)
    assert_close(linear_network[1].weight - before, -LR * 1.3 * weight_gradient)


def test_reported_loss_excludes_the_auxiliary_loss(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    expected, _, _ = compute_expected(linear_network, examples)
    engine = make_engine(WithAuxiliary(linear_network), sgd_config, device)
    engine.train_step(examples.images, examples.labels)
    assert_metrics_close(engine.train_metrics.compute(), expected)


def test_reported_loss_excludes_the_l1_penalty(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, train__l1=0.05)
    engine = make_engine(linear_network, sgd_config, device)
    expected, _, _ = compute_expected(linear_network, examples)
    measure_update(engine, examples)
    assert_metrics_close(engine.train_metrics.compute(), expected)


@EACH_DEVICE
def test_class_weights_multiply_gradients_but_not_the_reported_loss(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, device)
    expected, _, _ = compute_expected(linear_network, examples)
    class_weights = [0.5, 1.0, 2.0, 4.0]
    engine.class_weights = torch.tensor(class_weights, device=device.torch_device)
    gradient = torch.zeros(4, 16, device=device.torch_device)
    for label, weight in enumerate(class_weights):
        chosen = Examples(
            examples.images[examples.labels == label], examples.labels[examples.labels == label]
        )
        _, weight_gradient, _ = compute_expected(linear_network, chosen)
        gradient += weight * len(chosen) / len(examples) * weight_gradient
    update, _ = measure_update(engine, examples)
    assert_close(update, -LR * gradient)
    assert_metrics_close(engine.train_metrics.compute(), expected)


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_have_the_memory_format_of_the_device(
    channels_last: bool,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    network = nn.Sequential(nn.Conv2d(2, 1, 3), nn.Flatten(), nn.Linear(4, 4))
    engine = make_engine(network, sgd_config, replace(device, channels_last=channels_last))
    formats: list[bool] = []

    def record_format(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        formats.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    network.register_forward_pre_hook(record_format)
    engine.train_step(examples.images.repeat(1, 2, 1, 1), examples.labels)
    assert formats == [channels_last]


def test_step_trains_on_augmented_images_and_mixed_targets(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(linear_network, sgd_config, device)
    mirrored = Examples(examples.images.flip(-1), examples.labels)
    _, weight_gradient, _ = compute_expected(linear_network, mirrored)
    engine.augment = lambda images, labels: (images.flip(-1), functional.one_hot(labels, 4).float())
    assert_close(measure_update(engine, examples)[0], -LR * weight_gradient)


@EACH_DEVICE
def test_gradient_above_grad_clip_norm_is_scaled_down_to_it(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, train__grad_clip_norm=0.01)
    weight, bias = measure_update(make_engine(linear_network, sgd_config, device), examples)
    norm = (weight.square().sum() + bias.square().sum()).sqrt().item()
    assert norm == pytest.approx(LR * 0.01, rel=1e-3)


def test_gradient_below_grad_clip_norm_is_unchanged(
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(sgd_config, train__grad_clip_norm=100.0)
    _, weight_gradient, _ = compute_expected(linear_network, examples)
    engine = make_engine(linear_network, sgd_config, device)
    assert_close(measure_update(engine, examples)[0], -LR * weight_gradient)


def test_endless_steps_continue_after_an_epoch() -> None:
    class Engine:
        def steps(
            self, examples: object, order: torch.Tensor, batch_size: int, lr_factors: list[float]
        ) -> object:
            assert len(order) == len(lr_factors) * batch_size
            return iter([batch_size] * len(lr_factors))

    steps = endless_steps(Engine(), range(21), 8)  # type: ignore[arg-type]  # stand-ins
    assert list(itertools.islice(steps, 5)) == [8] * 5
