"""The engine that replays its steps computes the same numbers as the eager engine.

Without a GPU, a list of operations on fixed tensors stands in for the CUDA graph. Like a graph, it
does not repeat what Python computed during the recording.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.tape_engine import Net, TapeEngine
from torch import nn

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
)
from cnnbench.data.augment import Augment
from cnnbench.data.device_data import Examples, epoch_order
from cnnbench.data.preprocess import Preprocess, per_channel
from cnnbench.training.cuda_graph import GraphEngine
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine

MOMENTUM = MomentumConfig(lr=0.05, momentum=0.9, weight_decay=0.001)
OPTIMIZERS = [
    SgdConfig(lr=0.05, momentum=0.0, weight_decay=0.0),
    MOMENTUM,
    NesterovConfig(lr=0.05, momentum=0.9, weight_decay=0.0),
    AdamConfig(lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0),
    AdamWConfig(lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01),
    MuonConfig(lr=0.05, momentum=0.6, weight_decay=0.01, fallback="sgd", fallback_lr=0.05),
]
REFERENCE_OPTIMIZERS = [
    SgdConfig(lr=0.05, momentum=0.0, weight_decay=0.001),
    MomentumConfig(lr=0.05, momentum=0.9, weight_decay=0.0),
    AdagradConfig(lr=0.01, eps=1e-10, weight_decay=0.0),
    AdamConfig(lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0),
]
CASES = [
    *(pytest.param(optimizer, False, id=optimizer.name) for optimizer in OPTIMIZERS),
    *(
        pytest.param(optimizer, True, id=f"reference-{optimizer.name}")
        for optimizer in REFERENCE_OPTIMIZERS
    ),
]
BATCH = 8
ENGINE_CLASSES = (EagerEngine, GraphEngine)


@pytest.fixture
def make_prepared(
    make_engine: MakeEngine, config: Config, device: Device, examples: Examples
) -> Callable[..., EagerEngine]:
    """Return a factory of prepared engines of a class, with the same weights and generators."""
    change(config, optimizer=MOMENTUM)

    def prepare(engine_class: type[EagerEngine]) -> EagerEngine:
        engine = make_engine(Net(), config, device, engine_class)
        torch.manual_seed(2)
        engine.prepare(examples, BATCH)
        return engine

    return prepare


def train(engine: EagerEngine, examples: Examples, epochs: int = 20) -> list[float]:
    """Train with a different learning rate at each step; return the loss of each epoch.

    An epoch has three steps, the last of five examples.
    """
    losses = []
    for epoch in range(1, epochs + 1):
        engine.train_metrics.reset()
        factors = [1 / (epoch + step) for step in range(3)]
        assert sum(engine.steps(examples, epoch_order(21, 0, epoch), BATCH, factors)) == 21
        losses.append(engine.train_metrics.compute().loss)
    return losses


def train_three_epochs(engine: EagerEngine, examples: Examples) -> EagerEngine:
    train(engine, examples, epochs=3)
    return engine


def assert_same_weights(captured: EagerEngine, eager: EagerEngine) -> None:
    torch.testing.assert_close(
        captured.model.state_dict(), eager.model.state_dict(), rtol=1e-5, atol=1e-6
    )


@EACH_DEVICE
@pytest.mark.parametrize(("optimizer", "reference"), CASES)
def test_replayed_steps_equal_eager_steps(
    optimizer: OptimizerConfig,
    reference: bool,
    make_prepared: Callable[..., EagerEngine],
    config: Config,
    examples: Examples,
) -> None:
    change(config, optimizer=optimizer, reference__optimizer=reference)
    eager = make_prepared(EagerEngine)
    expected = train(eager, examples)
    captured = make_prepared(TapeEngine)
    assert captured.name == "graph"
    assert train(captured, examples) == pytest.approx(expected, rel=1e-5)
    assert_same_weights(captured, eager)


def test_epoch_without_smaller_last_batch_is_replayed(
    make_prepared: Callable[..., EagerEngine], examples: Examples
) -> None:
    engine = make_prepared(TapeEngine)
    assert list(engine.steps(examples, torch.arange(16), BATCH, [1.0, 1.0])) == [8, 8]


@EACH_DEVICE
def test_replayed_evaluation_equals_eager_evaluation(
    make_prepared: Callable[..., EagerEngine], examples: Examples
) -> None:
    eager = train_three_epochs(make_prepared(EagerEngine), examples)
    captured = train_three_epochs(make_prepared(TapeEngine), examples)
    measured, expected = captured.evaluate(examples, BATCH), eager.evaluate(examples, BATCH)
    assert measured.accuracy == expected.accuracy
    assert measured.loss == pytest.approx(expected.loss, rel=1e-5)


def test_evaluation_replays_on_other_examples_than_those_captured(
    make_prepared: Callable[..., EagerEngine], examples: Examples
) -> None:
    eager, captured = make_prepared(EagerEngine), make_prepared(TapeEngine)
    others = Examples(255 - examples.images, examples.labels.flip(0))
    measured, expected = captured.evaluate(others, BATCH), eager.evaluate(others, BATCH)
    assert measured.loss == pytest.approx(expected.loss, rel=1e-6)
    assert measured.loss != pytest.approx(captured.evaluate(examples, BATCH).loss, rel=1e-3)


@EACH_DEVICE
@pytest.mark.parametrize("engine_class", [TapeEngine, EagerEngine])
def test_prepare_leaves_weights_generators_and_metrics_unchanged(
    engine_class: type[EagerEngine],
    make_engine: MakeEngine,
    config: Config,
    device: Device,
    examples: Examples,
) -> None:
    change(config, train__ema_decay=0.9)
    engine = make_engine(Net(), config, device, engine_class)
    torch.manual_seed(2)
    networks = (engine.model, engine.average.model) if engine.average else ()
    before = [value.clone() for network in networks for value in network.state_dict().values()]
    drawn = torch.rand(3, device=device.torch_device)
    torch.manual_seed(2)
    engine.prepare(examples, BATCH)
    after = [value for network in networks for value in network.state_dict().values()]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert torch.equal(torch.rand(3, device=device.torch_device), drawn)
    assert engine.train_metrics.examples == engine.train_metrics.sums.sum() == 0


@EACH_DEVICE
def test_prepare_restores_optimizer_settings(
    make_prepared: Callable[..., EagerEngine], config: Config
) -> None:
    change(config, optimizer=OPTIMIZERS[-2])
    (group,) = make_prepared(TapeEngine).optimizers[0].param_groups
    assert (group["lr"], group["initial_lr"], group["capturable"]) == (0.01, 0.01, False)


@EACH_DEVICE
def test_dropout_differs_from_step_to_step(
    make_engine: MakeEngine, config: Config, device: Device, examples: Examples
) -> None:
    change(config, optimizer=SgdConfig(lr=1e-30, momentum=0.0, weight_decay=0.0))
    engine = make_engine(Net(), config, device, TapeEngine)
    engine.prepare(examples, BATCH)
    losses = []
    for _ in range(4):
        engine.train_metrics.reset()
        list(engine.steps(examples, torch.arange(8), BATCH, [1.0]))
        losses.append(engine.train_metrics.compute().loss)
    assert len(set(losses)) == 4


@EACH_DEVICE
def test_replayed_steps_update_averaged_weights(
    make_prepared: Callable[..., EagerEngine], config: Config, examples: Examples
) -> None:
    change(config, train__ema_decay=0.8)
    eager = train_three_epochs(make_prepared(EagerEngine), examples)
    captured = train_three_epochs(make_prepared(TapeEngine), examples)
    averaged = list(captured.eval_model.parameters())
    expected = list(eager.eval_model.parameters())
    torch.testing.assert_close(averaged, expected, rtol=1e-5, atol=1e-6)


@EACH_DEVICE
def test_replayed_steps_clip_gradients(
    make_prepared: Callable[..., EagerEngine], config: Config, examples: Examples
) -> None:
    change(config, train__grad_clip_norm=0.01)
    eager = train_three_epochs(make_prepared(EagerEngine), examples)
    captured = train_three_epochs(make_prepared(TapeEngine), examples)
    assert_same_weights(captured, eager)


@EACH_DEVICE
def test_replayed_steps_normalize_and_augment_color_images(
    make_engine: MakeEngine, config: Config, device: Device
) -> None:
    change(config, optimizer=MOMENTUM)
    change(config, augment__hflip=True, augment__translate=1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (21, 3, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.arange(21) % 4
    examples = Examples(pixels.to(device.torch_device), labels.to(device.torch_device))
    engines = []
    for engine_class in (EagerEngine, TapeEngine):
        network = Net()
        network[0] = nn.Conv2d(3, 3, 3, bias=False)
        engine = make_engine(network, config, device, engine_class)
        engine.preprocess = Preprocess(4, [0.4, 0.5, 0.6], [0.1, 0.2, 0.3], device.torch_device)
        black = per_channel([-4.0, -2.5, -2.0], device.torch_device)
        engine.augment = Augment(config.augment, 4, black)
        torch.manual_seed(2)
        engine.prepare(examples, BATCH)
        engines.append(train_three_epochs(engine, examples))
    assert engines[1].name == "graph"
    assert_same_weights(engines[1], engines[0])


class Synchronizing(Net):
    """A network that reads a number from the device in its forward pass."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scale = 1.0 if images.mean().item() > -math.inf else 0.0
        logits: torch.Tensor = super().forward(images)
        return logits * scale


@EACH_DEVICE
def test_synchronizing_step_runs_eagerly_with_a_warning(
    make_engine: MakeEngine,
    config: Config,
    device: Device,
    examples: Examples,
    caplog: pytest.LogCaptureFixture,
) -> None:
    change(config, optimizer=MOMENTUM)
    engines = [
        make_engine(Synchronizing(), config, device, engine_class)
        for engine_class in (EagerEngine, TapeEngine)
    ]
    losses = []
    for engine in engines:
        torch.manual_seed(2)
        engine.prepare(examples, BATCH)
        losses.append(train(engine, examples, epochs=3))
    assert engines[1].name == "eager"
    assert "cannot be captured in a CUDA graph" in caplog.text
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
@pytest.mark.parametrize(
    ("optimizer", "precision", "name"),
    [
        (AdagradConfig(lr=0.01, eps=1e-10, weight_decay=0.0), "fp32", "graph"),
        (
            RMSpropConfig(lr=0.001, alpha=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0),
            "fp32",
            "graph",
        ),
        (
            RMSpropConfig(lr=0.001, alpha=0.99, eps=1e-8, momentum=0.9, weight_decay=0.0),
            "fp16",
            "eager",
        ),
        (MOMENTUM, "fp16", "graph"),
    ],
    ids=["adagrad", "rmsprop", "rmsprop-fp16", "momentum-fp16"],
)
def test_gpu_captures_optimizers_except_rmsprop_in_fp16(
    optimizer: OptimizerConfig,
    precision: str,
    name: str,
    make_engine: MakeEngine,
    config: Config,
    device: Device,
    examples: Examples,
) -> None:
    change(config, optimizer=optimizer)
    engines = [
        make_engine(Net(), config, replace(device, precision=precision), engine_class)
        for engine_class in ENGINE_CLASSES
    ]
    losses = []
    for engine in engines:
        torch.manual_seed(2)
        engine.prepare(examples, BATCH)
        losses.append(train(engine, examples, epochs=3))
    assert engines[1].name == name
    assert losses[1] == pytest.approx(losses[0], rel=1e-4 if precision == "fp32" else 0.05)
