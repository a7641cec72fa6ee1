"""device.compile: what is compiled, that it computes the same, that it leaves no trace, and what goes wrong."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.devices import MakeEngine
from torch import nn

from cnnbench.config import Config
from cnnbench.data.device_data import Examples
from cnnbench.errors import ConfigError
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine

BATCH = 8


@pytest.fixture
def make(make_engine: MakeEngine, config: Config, device: Device) -> Callable[[bool], EagerEngine]:
    """An engine, compiled or not, from the same weights."""

    def engine(compiled: bool) -> EagerEngine:
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
        )
        return make_engine(network, config, replace(device, compile=compiled))

    return engine


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What runs compiled, and on how many examples; nothing is compiled in truth."""
    ran: list[tuple[str, int]] = []

    def stand_in(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
        def call(inputs: torch.Tensor, labels: torch.Tensor) -> Any:
            ran.append((function.__name__, len(labels)))
            return function(inputs, labels)

        return call

    monkeypatch.setattr(torch, "compile", stand_in)
    return ran


def test_full_batches_run_compiled_and_smaller_ones_as_they_come(
    make: Callable[[bool], EagerEngine], examples: Examples, sizes: list[tuple[str, int]]
) -> None:
    engine = make(True)
    engine.prepare(examples, BATCH)
    sizes.clear()
    list(engine.steps(examples, torch.arange(21), BATCH, [1.0, 1.0, 1.0]))
    engine.evaluate(examples, BATCH)
    assert sizes == [("_objective", 8), ("_objective", 8), ("_measure", 8), ("_measure", 8)]


def test_compiling_happens_ahead_of_training(
    make: Callable[[bool], EagerEngine],
    examples: Examples,
    sizes: list[tuple[str, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    make(True).prepare(examples, BATCH)
    assert caplog.messages == ["Compiling the network, which may take minutes ..."]
    assert sizes == [("_objective", 8), ("_measure", 8)]


def test_compiling_leaves_no_trace(
    make: Callable[[bool], EagerEngine], examples: Examples, sizes: list[tuple[str, int]]
) -> None:
    engine = make(True)
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    engine.prepare(examples, BATCH)
    assert all(
        torch.equal(value, before[name]) for name, value in engine.model.state_dict().items()
    )
    assert not any(
        value.any() for value in engine.optimizers[0].state[engine.model[0].weight].values()
    )
    assert engine.train_metrics.examples == 0


def test_without_it_nothing_is_compiled(
    make: Callable[[bool], EagerEngine], examples: Examples, sizes: list[tuple[str, int]]
) -> None:
    engine = make(False)
    engine.prepare(examples, BATCH)
    list(engine.steps(examples, torch.arange(8), BATCH, [1.0]))
    assert sizes == []


def test_a_network_that_cannot_be_compiled_is_a_configuration_error(
    make: Callable[[bool], EagerEngine], examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(function: object, **_: object) -> Callable[..., Any]:
        def call(*_: object) -> None:
            raise RuntimeError("No working C++ compiler found\nand so on")

        return call

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(
        ConfigError, match=r"device\.compile=on: .*No working C\+\+ compiler found\. Use"
    ):
        make(True).prepare(examples, BATCH)


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied", "/home"), KeyError("uid not found: 12345")],
    ids=["folder that cannot be written", "user without a name"],
)
def test_a_compiler_without_a_place_for_its_cache_is_a_configuration_error(
    make: Callable[[bool], EagerEngine],
    examples: Examples,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(ConfigError, match=r"device\.compile=on: .*(/home|uid not found).* Use dev"):
        make(True).prepare(examples, BATCH)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own imports
def test_compiled_steps_are_those_of_the_eager_engine(
    make: Callable[[bool], EagerEngine], examples: Examples
) -> None:
    engines = [make(False), make(True)]
    for engine in engines:
        engine.prepare(examples, BATCH)
        for _ in range(5):
            list(engine.steps(examples, torch.arange(21), BATCH, [1.0, 0.5, 0.25]))
    plain, compiled = (engine.model.state_dict() for engine in engines)
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-6, msg=name)
    losses = [engine.evaluate(examples, BATCH).loss for engine in engines]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
