"""The engine that replays its steps: the same numbers as the eager one.

Where there is no GPU the graph is a list of operations, recorded and repeated on the same tensors as a CUDA graph
is: what is computed in Python at the time of recording stays as it was.
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

Step = Callable[[], None]


SGD = MomentumConfig(lr=0.05, momentum=0.9, weight_decay=0.001)
OPTIMIZERS = [
    SgdConfig(lr=0.05, momentum=0.0, weight_decay=0.0),
    SGD,
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
KINDS = (EagerEngine, GraphEngine)


@pytest.fixture
def make(
    make_engine: MakeEngine, config: Config, device: Device, examples: Examples
) -> Callable[..., EagerEngine]:
    """An engine of a class, prepared, with the generators as they are for the other one."""
    change(config, optimizer=SGD)

    def prepared(kind: type[EagerEngine]) -> EagerEngine:
        engine = make_engine(Net(), config, device, kind)
        torch.manual_seed(2)
        engine.prepare(examples, BATCH)
        return engine

    return prepared


def train(engine: EagerEngine, examples: Examples, epochs: int = 20) -> list[float]:
    """The loss of each epoch; three steps an epoch, the last of five examples, each at another rate."""
    losses = []
    for epoch in range(1, epochs + 1):
        engine.train_metrics.reset()
        factors = [1 / (epoch + step) for step in range(3)]
        assert sum(engine.steps(examples, epoch_order(21, 0, epoch), BATCH, factors)) == 21
        losses.append(engine.train_metrics.compute().loss)
    return losses


def trained(engine: EagerEngine, examples: Examples) -> EagerEngine:
    train(engine, examples, epochs=3)
    return engine


def assert_same(ours: EagerEngine, theirs: EagerEngine, rtol: float = 1e-5) -> None:
    for name, value in theirs.model.state_dict().items():
        torch.testing.assert_close(
            ours.model.state_dict()[name], value, rtol=rtol, atol=1e-6, msg=name
        )


@EACH_DEVICE
@pytest.mark.parametrize(("optimizer", "reference"), CASES)
def test_sixty_steps_are_those_of_the_eager_engine(
    optimizer: OptimizerConfig,
    reference: bool,
    make: Callable[..., EagerEngine],
    config: Config,
    examples: Examples,
) -> None:
    change(config, optimizer=optimizer, reference__optimizer=reference)
    eager = make(EagerEngine)
    expected = train(eager, examples)
    captured = make(TapeEngine)
    assert captured.name == "graph"
    assert train(captured, examples) == pytest.approx(expected, rel=1e-5)
    assert_same(captured, eager)


def test_an_epoch_may_be_full_batches_alone(
    make: Callable[..., EagerEngine], examples: Examples
) -> None:
    assert list(make(TapeEngine).steps(examples, torch.arange(16), BATCH, [1.0, 1.0])) == [8, 8]


@EACH_DEVICE
def test_replayed_evaluation_is_that_of_the_eager_engine(
    make: Callable[..., EagerEngine], examples: Examples
) -> None:
    eager, captured = (trained(make(kind), examples) for kind in (EagerEngine, TapeEngine))
    ours, theirs = (engine.evaluate(examples, BATCH) for engine in (captured, eager))
    assert ours.accuracy == theirs.accuracy
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)


def test_an_evaluation_replays_full_batches_on_other_examples_than_those_captured(
    make: Callable[..., EagerEngine], examples: Examples
) -> None:
    eager, captured = make(EagerEngine), make(TapeEngine)
    others = Examples(255 - examples.images, examples.labels.flip(0))
    ours, theirs = (engine.evaluate(others, BATCH) for engine in (captured, eager))
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
    assert ours.loss != pytest.approx(captured.evaluate(examples, BATCH).loss, rel=1e-3)


@EACH_DEVICE
@pytest.mark.parametrize("kind", [TapeEngine, EagerEngine])
def test_preparing_leaves_no_trace(
    kind: type[EagerEngine],
    make_engine: MakeEngine,
    config: Config,
    device: Device,
    examples: Examples,
) -> None:
    change(config, train__ema_decay=0.9)
    engine = make_engine(Net(), config, device, kind)
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
def test_the_learning_rates_are_numbers_again_after_preparing(
    make: Callable[..., EagerEngine], config: Config
) -> None:
    change(config, optimizer=OPTIMIZERS[-2])
    (group,) = make(TapeEngine).optimizers[0].param_groups
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
def test_averaged_weights_follow_the_replayed_steps(
    make: Callable[..., EagerEngine], config: Config, examples: Examples
) -> None:
    change(config, train__ema_decay=0.8)
    eager, captured = (trained(make(kind), examples) for kind in (EagerEngine, TapeEngine))
    for ours, theirs in zip(
        captured.eval_model.parameters(), eager.eval_model.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@EACH_DEVICE
def test_a_clipped_gradient_is_clipped_in_replays(
    make: Callable[..., EagerEngine], config: Config, examples: Examples
) -> None:
    change(config, train__grad_clip_norm=0.01)
    eager, captured = (trained(make(kind), examples) for kind in (EagerEngine, TapeEngine))
    assert_same(captured, eager)


@EACH_DEVICE
def test_colour_is_normalised_and_augmented_in_replays(
    make_engine: MakeEngine, config: Config, device: Device
) -> None:
    """Mean, deviation and black are tensors there, one value for each channel."""
    change(config, optimizer=SGD)
    change(config, augment__hflip=True, augment__translate=1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (21, 3, 4, 4), dtype=torch.uint8, generator=generator)
    examples = Examples(
        pixels.to(device.torch_device), (torch.arange(21) % 4).to(device.torch_device)
    )
    engines = []
    for kind in (EagerEngine, TapeEngine):
        network = Net()
        network[0] = nn.Conv2d(3, 3, 3, bias=False)
        engine = make_engine(network, config, device, kind)
        engine.preprocess = Preprocess(4, [0.4, 0.5, 0.6], [0.1, 0.2, 0.3], device.torch_device)
        engine.augment = Augment(
            config.augment, 4, per_channel([-4.0, -2.5, -2.0], device.torch_device)
        )
        torch.manual_seed(2)
        engine.prepare(examples, BATCH)
        engines.append(trained(engine, examples))
    assert engines[1].name == "graph"
    assert_same(engines[1], engines[0])


class Waits(Net):
    """Asks for a number in its forward pass."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scale = 1.0 if images.mean().item() > -math.inf else 0.0
        logits: torch.Tensor = super().forward(images)
        return logits * scale


@EACH_DEVICE
def test_a_step_that_waits_runs_eagerly_and_says_so(
    make_engine: MakeEngine,
    config: Config,
    device: Device,
    examples: Examples,
    caplog: pytest.LogCaptureFixture,
) -> None:
    change(config, optimizer=SGD)
    engines = [make_engine(Waits(), config, device, kind) for kind in (EagerEngine, TapeEngine)]
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
        (SGD, "fp16", "graph"),
    ],
    ids=["adagrad", "rmsprop", "rmsprop-fp16", "momentum-fp16"],
)
def test_what_can_be_captured_on_a_gpu(
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
        make_engine(Net(), config, replace(device, precision=precision), kind) for kind in KINDS
    ]
    losses = []
    for engine in engines:
        torch.manual_seed(2)
        engine.prepare(examples, BATCH)
        losses.append(train(engine, examples, epochs=3))
    assert engines[1].name == name
    assert losses[1] == pytest.approx(losses[0], rel=1e-4 if precision == "fp32" else 0.05)
