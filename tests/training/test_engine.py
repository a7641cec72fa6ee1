"""One step and one evaluation, against the same computed by hand."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.softmax_regression import compute_expected, measure_update
from torch import nn
from torch.nn import functional

from cnnbench.config import (
    AdagradConfig,
    AdamConfig,
    Config,
    MomentumConfig,
    OptimizerConfig,
    RMSpropConfig,
    SgdConfig,
)
from cnnbench.data.device_data import Examples
from cnnbench.training.device import Device
from cnnbench.training.engine import Metrics, endless_steps

LR = 0.1


@pytest.fixture
def network() -> nn.Sequential:
    """The logits of four classes are a linear function of 16 pixels."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


@pytest.fixture
def plain(config: Config) -> Config:
    """Gradient descent: what a step adds to the parameters is the gradient times -LR."""
    change(config, optimizer=SgdConfig(lr=LR, momentum=0.0, weight_decay=0.0))
    return config


def about(metrics: Metrics) -> object:
    return pytest.approx((metrics.loss, metrics.accuracy), rel=1e-5)


def values(metrics: Metrics) -> tuple[float, float]:
    return metrics.loss, metrics.accuracy


@EACH_DEVICE
def test_evaluation_is_the_mean_over_examples_with_a_smaller_last_batch(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    expected, _, _ = compute_expected(network, examples)
    assert values(engine.evaluate(examples, batch_size=8)) == about(expected)


@EACH_DEVICE
def test_training_sums_the_mean_over_examples_with_a_smaller_last_batch(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, optimizer__lr=0.0)
    engine = make_engine(network, plain, device)
    for images, labels in examples.batches_in_order(8):
        engine.train_step(images, labels)
    expected, _, _ = compute_expected(network, examples)
    assert values(engine.train_metrics.compute()) == about(expected)


def test_sums_begin_anew_after_a_reset(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, optimizer__lr=0.0)
    engine = make_engine(network, plain, device)
    engine.train_step(examples.images, torch.zeros_like(examples.labels))
    engine.train_metrics.reset()
    engine.train_step(examples.images, examples.labels)
    expected, _, _ = compute_expected(network, examples)
    assert values(engine.train_metrics.compute()) == about(expected)


@EACH_DEVICE
def test_a_step_of_gradient_descent_is_the_one_by_hand(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    _, weight_gradient, bias_gradient = compute_expected(network, examples)
    weight, bias = measure_update(engine, examples)
    torch.testing.assert_close(weight, -LR * weight_gradient, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(bias, -LR * bias_gradient, rtol=1e-4, atol=1e-6)


def test_gradients_do_not_add_up_over_steps(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    measure_update(engine, examples)
    _, weight_gradient, _ = compute_expected(network, examples)
    torch.testing.assert_close(
        measure_update(engine, examples)[0], -LR * weight_gradient, rtol=1e-4, atol=1e-6
    )


def test_a_weighted_step_moves_by_its_share(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    _, weight_gradient, _ = compute_expected(network, examples)
    torch.testing.assert_close(
        measure_update(engine, examples, weight=0.25)[0],
        -LR * 0.25 * weight_gradient,
        rtol=1e-4,
        atol=1e-6,
    )


def test_the_loss_of_a_weighted_step_is_reported_whole(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    expected, _, _ = compute_expected(network, examples)
    measure_update(engine, examples, weight=0.25)
    assert values(engine.train_metrics.compute()) == about(expected)


@EACH_DEVICE
def test_l1_draws_the_weights_and_not_the_biases_towards_zero(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, train__l1=0.05)
    engine = make_engine(network, plain, device)
    _, weight_gradient, bias_gradient = compute_expected(network, examples)
    signs = network[1].weight.detach().sign()
    weight, bias = measure_update(engine, examples)
    torch.testing.assert_close(weight, -LR * (weight_gradient + 0.05 * signs), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(bias, -LR * bias_gradient, rtol=1e-4, atol=1e-6)


class WithAuxiliary(nn.Module):
    """Twice the same logits while training, as if an auxiliary classifier gave the second."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        logits: torch.Tensor = self.network(images)
        return (logits, logits) if self.training else logits


@EACH_DEVICE
def test_the_loss_of_an_auxiliary_classifier_counts_three_tenths(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    _, weight_gradient, _ = compute_expected(network.to(device.torch_device), examples)
    engine = make_engine(WithAuxiliary(network), plain, device)
    before = network[1].weight.detach().clone()
    engine.train_step(examples.images, examples.labels)
    torch.testing.assert_close(
        network[1].weight - before, -LR * 1.3 * weight_gradient, rtol=1e-4, atol=1e-6
    )


def test_the_loss_of_an_auxiliary_classifier_is_not_reported(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    expected, _, _ = compute_expected(network, examples)
    engine = make_engine(WithAuxiliary(network), plain, device)
    engine.train_step(examples.images, examples.labels)
    assert values(engine.train_metrics.compute()) == about(expected)


def test_l1_is_no_part_of_the_reported_loss(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, train__l1=0.05)
    engine = make_engine(network, plain, device)
    expected, _, _ = compute_expected(network, examples)
    measure_update(engine, examples)
    assert values(engine.train_metrics.compute()) == about(expected)


def test_evaluation_changes_no_parameter_and_no_statistic(
    plain: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> None:
    engine = make_engine(
        nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 4)), plain, device
    )
    engine.model.train()
    before = copy.deepcopy(engine.model.state_dict())
    engine.evaluate(examples, 8)
    assert all(torch.equal(value, before[key]) for key, value in engine.model.state_dict().items())


def test_evaluation_leaves_the_sums_of_training_alone(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    engine.train_step(examples.images, examples.labels)
    before = engine.train_metrics.compute()
    engine.evaluate(examples, 8)
    assert engine.train_metrics.compute() == before


def test_evaluation_keeps_nothing_for_gradients(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    needed: list[bool] = []
    network.register_forward_hook(
        lambda _network, _inputs, output: needed.append(output.requires_grad)
    )
    engine.evaluate(examples, 21)
    assert needed == [False]


@EACH_DEVICE
def test_evaluation_is_without_dropout(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    expected, _, _ = compute_expected(
        network, Examples(examples.images.cpu(), examples.labels.cpu())
    )
    engine = make_engine(nn.Sequential(nn.Dropout(0.9), *network), plain, device)
    engine.model.train()
    assert values(engine.evaluate(examples, 8)) == about(expected)


@pytest.mark.parametrize(
    ("precision", "scaled"), [("fp32", False), ("bf16", False), ("fp16", True)]
)
def test_only_fp16_scales_its_gradients(
    precision: str,
    scaled: bool,
    network: nn.Sequential,
    plain: Config,
    device: Device,
    make_engine: MakeEngine,
) -> None:
    assert (
        make_engine(network, plain, replace(device, precision=precision)).scaler.is_enabled()
        is scaled
    )


@EACH_DEVICE
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_computes_the_layers_in_its_type(
    precision: str,
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    device = replace(device, precision=precision)
    engine = make_engine(network, plain, device)
    seen: list[torch.dtype] = []
    network.register_forward_hook(lambda _network, _inputs, output: seen.append(output.dtype))
    engine.train_step(examples.images, examples.labels)
    assert seen == [device.autocast_dtype]


@EACH_DEVICE
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_step_in_half_precision_is_nearly_the_one_by_hand(
    precision: str,
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, replace(device, precision=precision))
    _, weight_gradient, _ = compute_expected(network, examples)
    torch.testing.assert_close(
        measure_update(engine, examples)[0], -LR * weight_gradient, rtol=0.02, atol=2e-4
    )


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
def test_half_precision_keeps_finite_float32_parameters(
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
    parameters = list(network.parameters())
    assert all(
        parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in parameters
    )


@EACH_DEVICE
def test_gradients_too_small_for_fp16_are_not_lost(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, optimizer__lr=1e9)
    engine = make_engine(network, plain, replace(device, precision="fp16"))
    full_loss = engine.loss
    engine.loss = lambda logits, labels: 1e-9 * full_loss(logits, labels)
    weight, _ = measure_update(engine, examples)
    assert weight.any(dim=0).all()


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_reach_the_network_in_the_layout_of_the_device(
    channels_last: bool, plain: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> None:
    network = nn.Sequential(nn.Conv2d(2, 1, 3), nn.Flatten(), nn.Linear(4, 4))
    engine = make_engine(network, plain, replace(device, channels_last=channels_last))
    seen: list[bool] = []
    network.register_forward_pre_hook(
        lambda _network, inputs: seen.append(
            inputs[0].is_contiguous(memory_format=torch.channels_last)
        )
    )
    engine.train_step(examples.images.repeat(1, 2, 1, 1), examples.labels)
    assert seen == [channels_last]


def test_the_network_trains_on_augmented_images_and_mixed_targets(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(network, plain, device)
    mirrored = Examples(examples.images.flip(-1), examples.labels)
    _, weight_gradient, _ = compute_expected(network, mirrored)
    engine.augment = lambda images, labels: (images.flip(-1), functional.one_hot(labels, 4).float())
    torch.testing.assert_close(
        measure_update(engine, examples)[0], -LR * weight_gradient, rtol=1e-4, atol=1e-6
    )


def test_evaluation_is_of_images_as_they_are(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, augment__hflip=True, augment__translate=1, augment__mixup=1.0)
    expected, _, _ = compute_expected(network, examples)
    assert values(make_engine(network, plain, device).evaluate(examples, 8)) == about(expected)


def test_flip_averaging_measures_the_mean_logits_of_both_ways_round(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, train__tta="hflip")
    with torch.no_grad():
        logits = (network(examples.images / 255) + network(examples.images.flip(-1) / 255)) / 2
    expected = functional.cross_entropy(logits, examples.labels).item()
    assert make_engine(network, plain, device).evaluate(examples, 8).loss == pytest.approx(
        expected, rel=1e-5
    )


@EACH_DEVICE
def test_a_gradient_that_is_too_long_is_shortened_to_the_norm_allowed(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, train__grad_clip_norm=0.01)
    weight, bias = measure_update(make_engine(network, plain, device), examples)
    assert (weight.square().sum() + bias.square().sum()).sqrt().item() == pytest.approx(
        LR * 0.01, rel=1e-3
    )


def test_a_gradient_that_is_short_enough_stays(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, train__grad_clip_norm=100.0)
    _, weight_gradient, _ = compute_expected(network, examples)
    torch.testing.assert_close(
        measure_update(make_engine(network, plain, device), examples)[0],
        -LR * weight_gradient,
        rtol=1e-4,
        atol=1e-6,
    )


def test_gradients_in_fp16_are_clipped_at_their_own_length(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, train__grad_clip_norm=0.01)
    weight, bias = measure_update(
        make_engine(network, plain, replace(device, precision="fp16")), examples
    )
    assert (weight.square().sum() + bias.square().sum()).sqrt().item() == pytest.approx(
        LR * 0.01, rel=1e-2
    )


def test_averaged_weights_are_what_is_evaluated(
    network: nn.Sequential,
    plain: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(plain, train__ema_decay=1.0)  # the initial weights for ever
    expected, _, _ = compute_expected(network, examples)
    engine = make_engine(network, plain, device)
    measure_update(engine, examples)
    assert values(engine.evaluate(examples, 8)) == about(expected)


def test_steps_go_on_after_an_epoch() -> None:
    class Engine:
        def steps(
            self, examples: object, order: torch.Tensor, batch_size: int, lr_factors: list[float]
        ) -> object:
            assert len(order) == len(lr_factors) * batch_size
            return iter([batch_size] * len(lr_factors))

    steps = endless_steps(Engine(), range(21), 8)  # type: ignore[arg-type]  # stand-ins
    assert list(itertools.islice(steps, 5)) == [8] * 5
