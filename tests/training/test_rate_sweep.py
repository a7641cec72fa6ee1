"""Training at rising learning rates: the rows, the state left behind, and the suggestion."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.tape_engine import Net, TapeEngine
from torch import nn
from torch.nn import functional

from cnnbench.config import (
    AdamConfig,
    Config,
    MomentumConfig,
    MuonConfig,
    OptimizerConfig,
    RMSpropConfig,
    SgdConfig,
)
from cnnbench.data.device_data import Examples, epoch_order
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine, copy_to_cpu
from cnnbench.training.rate_sweep import Suggestion, find_guessing_loss, suggest, sweep_rates
from cnnbench.training.state import Row

BATCH = 8
RATES = [1e-3 * 2**step for step in range(8)]
OPTIMIZERS: dict[str, OptimizerConfig] = {
    optimizer.name: optimizer
    for optimizer in (
        SgdConfig(lr=0.05, momentum=0.0, weight_decay=0.001),
        MomentumConfig(lr=0.05, momentum=0.9, weight_decay=0.0),
        AdamConfig(lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01),
        RMSpropConfig(lr=0.01, alpha=0.99, eps=1e-8, momentum=0.9, weight_decay=0.0),
        MuonConfig(lr=0.05, momentum=0.6, weight_decay=0.0, fallback="sgd", fallback_lr=0.02),
    )
}


def state_of(engine: EagerEngine) -> Any:
    """Return a copy of weights, statistics, average, optimizers, scaler, sums and generators."""
    optimizers = [optimizer.state_dict() for optimizer in engine.optimizers]
    parts = [engine.tensors(), optimizers, engine.scaler.state_dict(), engine.state()]
    return copy_to_cpu(parts)


def train(engine: EagerEngine, examples: Examples) -> Any:
    """Train three steps; return the state."""
    order = epoch_order(len(examples), seed=0, epoch=1)
    assert list(engine.steps(examples, order, BATCH, [0.25, 0.5, 1.0])) == [8, 8, 5]
    return state_of(engine)


def assert_equal_bits(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.fixture
def make_stateful(
    make_engine: MakeEngine, config: Config, device: Device, examples: Examples
) -> Callable[..., EagerEngine]:
    """Return a factory of engines with batch statistics, dropout, augmentation and an average."""
    change(config, augment__hflip=True, train__ema_decay=0.8)

    def make(engine_class: type[EagerEngine] = EagerEngine, precision: str = "fp32") -> EagerEngine:
        in_precision = replace(device, precision=precision)
        engine = make_engine(Net(), config, in_precision, engine_class)
        torch.manual_seed(2)
        engine.prepare(examples, BATCH)
        return engine

    return make


@EACH_DEVICE
@pytest.mark.parametrize(
    ("engine_class", "optimizer"),
    [
        *((EagerEngine, optimizer) for optimizer in OPTIMIZERS.values()),
        *((TapeEngine, OPTIMIZERS[name]) for name in ("momentum", "adam", "muon")),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_sweep_leaves_no_trace_in_training(
    engine_class: type[EagerEngine],
    optimizer: OptimizerConfig,
    make_stateful: Callable[..., EagerEngine],
    config: Config,
    examples: Examples,
) -> None:
    change(config, optimizer=optimizer)
    other = make_stateful(engine_class)
    expected = [train(other, examples), train(other, examples)]
    engine = make_stateful(engine_class)
    assert_equal_bits(train(engine, examples), expected[0])
    rows = sweep_rates(engine, examples, BATCH, RATES, config)
    assert len({row["loss"] for row in rows}) == len(RATES)
    assert_equal_bits(state_of(engine), expected[0])
    assert_equal_bits(train(engine, examples), expected[1])


def test_sweep_before_training_leaves_no_trace(
    make_stateful: Callable[..., EagerEngine], config: Config, examples: Examples
) -> None:
    change(config, optimizer=OPTIMIZERS["adam"])  # which has no state before its first step
    expected = train(make_stateful(), examples)
    engine = make_stateful()
    sweep_rates(engine, examples, BATCH, RATES, config)
    assert_equal_bits(train(engine, examples), expected)


@pytest.mark.parametrize(
    ("precision", "changes"),
    [("fp16", {}), ("fp32", {"train__on_nonfinite_loss": "skip"})],
    ids=["fp16", "skip"],
)
def test_sweep_leaves_no_trace_in_the_gradient_scaler(
    precision: str,
    changes: dict[str, str],
    make_stateful: Callable[..., EagerEngine],
    config: Config,
    examples: Examples,
) -> None:
    change(config, **changes)
    expected = train(make_stateful(precision=precision), examples)
    engine = make_stateful(precision=precision)
    before = state_of(engine)
    sweep_rates(engine, examples, BATCH, [*RATES, 1e6, 1e30], config)
    assert_equal_bits(state_of(engine), before)
    assert_equal_bits(train(engine, examples), expected)


@EACH_DEVICE
@pytest.mark.parametrize("engine_class", [EagerEngine, TapeEngine])
def test_row_has_the_loss_of_its_batch_before_the_update(
    engine_class: type[EagerEngine],
    linear_network: nn.Sequential,
    sgd_config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    weights = [parameter.detach().double().cpu() for parameter in linear_network.parameters()]
    engine = make_engine(linear_network, sgd_config, device, engine_class)
    engine.prepare(examples, BATCH)
    list(engine.steps(examples, epoch_order(21, 0, 1), BATCH, [0.0] * 3))  # adds to the sums
    rates = [0.1, 0.2, 0.4, 0.8, 1.6]
    rows = sweep_rates(engine, examples, BATCH, rates, sgd_config)
    expected = []
    weight, bias = (parameter.requires_grad_() for parameter in weights)
    for step, rate in enumerate(rates):  # two full batches of 21 examples in each epoch
        epoch, place = divmod(step, 2)
        order = epoch_order(21, sgd_config.seed, epoch + 1)[BATCH * place : BATCH * (place + 1)]
        images = examples.images.cpu()[order].flatten(1).double() / 255
        loss = functional.cross_entropy(images @ weight.T + bias, examples.labels.cpu()[order])
        expected.append(loss.item())
        gradients = torch.autograd.grad(loss, (weight, bias))
        with torch.no_grad():
            weight -= rate * gradients[0]
            bias -= rate * gradients[1]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["lr"] for row in rows] == rates
    assert [row["loss"] for row in rows] == pytest.approx(expected, rel=1e-5)
    smoothed = [expected[0], (0.25 * expected[0] + 0.5 * expected[1]) / 0.75]  # window 2: decay 0.5
    assert [row["smoothed_loss"] for row in rows[:2]] == pytest.approx(smoothed, rel=1e-5)


def test_each_step_scales_the_rates_of_all_optimizers(
    make_stateful: Callable[..., EagerEngine],
    config: Config,
    examples: Examples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(config, optimizer=OPTIMIZERS["muon"])
    engine = make_stateful()
    seen = []
    train_step = engine.train_step

    def spy(*arguments: Any, **options: Any) -> None:
        seen.append([group["lr"] for part in engine.optimizers for group in part.param_groups])
        train_step(*arguments, **options)

    monkeypatch.setattr(engine, "train_step", spy)
    sweep_rates(engine, examples, BATCH, RATES, config)
    expected = torch.tensor([[rate, 0.4 * rate] for rate in RATES])
    torch.testing.assert_close(torch.tensor(seen), expected)


@pytest.mark.parametrize("last_loss", [100.0, math.inf, math.nan])
def test_sweep_ends_when_the_loss_explodes(
    last_loss: float,
    make_stateful: Callable[..., EagerEngine],
    config: Config,
    examples: Examples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_stateful()
    losses = iter([2.0, 1.0, 2.0, 3.0, last_loss, 1.0, 1.0])
    computed = engine.train_metrics.compute
    monkeypatch.setattr(
        engine.train_metrics, "compute", lambda: replace(computed(), loss=next(losses))
    )
    rows = sweep_rates(engine, examples, BATCH, RATES, config)
    assert [row["loss"] for row in rows[:-1]] == [2.0, 1.0, 2.0, 3.0]
    assert_equal_bits(rows[-1]["loss"], last_loss)


def make_rows(losses: list[float]) -> list[Row]:
    """Return the rows of losses at rates from 1e-4 to 1, smoothed already."""
    rates = torch.logspace(-4, 0, 41).tolist()
    return [
        {"step": step, "lr": rate, "loss": loss, "smoothed_loss": loss}
        for step, (rate, loss) in enumerate(zip(rates, losses, strict=False), start=1)
    ]


def test_suggestion_is_a_tenth_of_the_rate_of_the_lowest_loss() -> None:
    # Slow to 1e-3, fast to 1e-2, slow to 0.1, where the loss is lowest; then it grows.
    falls = [0.01] * 10 + [0.1] * 10 + [0.02] * 10 + [-0.5] * 10
    losses = [2.4 - sum(falls[:step]) for step in range(41)]
    suggestion = suggest(make_rows(losses), 41, 2.3)
    assert suggestion is not None
    assert suggestion.lowest_at == pytest.approx(0.1)
    assert 1e-3 <= suggestion.steepest_at <= 1e-2
    assert suggestion.rate == 0.01
    assert Suggestion(0.0347, 0.01).rate == 0.0035


@pytest.mark.parametrize(
    "losses",
    [
        [2.5] * 41,
        [2.5] * 20 + [2.29] * 21,  # the guessing loss is 2.3
        [1.0] + [2.5] * 40,  # a batch that was easy
        [0.5] * 20 + [0.497] * 21,  # as of a trained network
        [2.5, math.nan],
        [math.inf],
    ],
    ids=["flat", "guessing", "first batch", "fell by less than 1 %", "nan", "at once"],
)
def test_there_is_no_suggestion_if_nothing_is_learned(losses: list[float]) -> None:
    assert suggest(make_rows(losses), 41, 2.3) is None


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("cross_entropy", -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))),
        ("nll", -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))),
        ("mse", (0.75 * 2 * 0.25**2 + 0.25 * 2 * 0.75**2) / 3),
    ],
)
def test_guessing_loss_is_that_of_the_shares_of_the_classes(
    loss: str,
    expected: float,
    linear_network: nn.Sequential,
    config: Config,
    device: Device,
    make_engine: MakeEngine,
) -> None:
    change(config, train__loss=loss)
    engine = make_engine(linear_network, config, device)
    labels = torch.tensor([0, 0, 0, 1]).repeat(2500)
    assert find_guessing_loss(engine, labels, 3) == pytest.approx(expected, abs=2e-3)


def test_guessing_loss_with_balanced_classes_is_that_of_equal_shares(
    linear_network: nn.Sequential, config: Config, device: Device, make_engine: MakeEngine
) -> None:
    engine = make_engine(linear_network, config, device)
    engine.class_weights = torch.tensor([2 / 3, 2.0])
    labels = torch.tensor([0, 0, 0, 1])
    assert find_guessing_loss(engine, labels, 2) == pytest.approx(math.log(2))
