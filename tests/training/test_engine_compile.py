"""Engines with device.compile: what they compile, the same results, and compiler errors."""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import MakeEngine
from torch import nn

from cnnbench.config import Config
from cnnbench.data.device_data import Examples
from cnnbench.errors import ConfigError
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine

BATCH = 8

MakeCompiled = Callable[[bool], EagerEngine]


@pytest.fixture
def make_compiled(make_engine: MakeEngine, config: Config, device: Device) -> MakeCompiled:
    """Return a factory of engines, compiled or not, with the same initial weights."""

    def make(is_compiled: bool) -> EagerEngine:
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
        )
        return make_engine(network, config, replace(device, compile=is_compiled))

    return make


@pytest.fixture
def compiled_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replace torch.compile; return each call of a compiled function, as name and batch size."""
    calls: list[tuple[str, int]] = []

    def record_calls(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
        def call(inputs: torch.Tensor, labels: torch.Tensor) -> Any:
            calls.append((function.__name__, len(labels)))
            return function(inputs, labels)

        return call

    monkeypatch.setattr(torch, "compile", record_calls)
    return calls


def test_full_batches_run_compiled_and_smaller_batches_uncompiled(
    make_compiled: MakeCompiled, examples: Examples, compiled_calls: list[tuple[str, int]]
) -> None:
    engine = make_compiled(True)
    engine.prepare(examples, BATCH)
    compiled_calls.clear()
    list(engine.steps(examples, torch.arange(21), BATCH, [1.0, 1.0, 1.0]))
    engine.evaluate(examples, BATCH)
    assert compiled_calls == [
        ("_objective", 8),
        ("_objective", 8),
        ("_measure", 8),
        ("_measure", 8),
    ]


def test_micro_batches_run_compiled(
    make_compiled: MakeCompiled,
    config: Config,
    examples: Examples,
    compiled_calls: list[tuple[str, int]],
) -> None:
    change(config, train__accumulate=2)
    engine = make_compiled(True)
    engine.prepare(examples, BATCH)
    assert compiled_calls == [("_objective", 4), ("_objective", 4), ("_measure", 8)]
    compiled_calls.clear()
    list(engine.steps(examples, torch.arange(16), BATCH, [1.0, 1.0]))
    assert compiled_calls == [("_objective", 4)] * 4


def test_prepare_compiles_before_training(
    make_compiled: MakeCompiled,
    examples: Examples,
    compiled_calls: list[tuple[str, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    make_compiled(True).prepare(examples, BATCH)
    assert caplog.messages == ["Compiling the network, which may take minutes ..."]
    assert compiled_calls == [("_objective", 8), ("_measure", 8)]


def test_prepare_leaves_weights_optimizer_and_metrics_unchanged(
    make_compiled: MakeCompiled, examples: Examples, compiled_calls: list[tuple[str, int]]
) -> None:
    engine = make_compiled(True)
    before = copy.deepcopy(engine.model.state_dict())
    engine.prepare(examples, BATCH)
    torch.testing.assert_close(engine.model.state_dict(), before, rtol=0, atol=0)
    state = engine.optimizers[0].state[engine.model[0].weight]
    assert not any(value.any() for value in state.values())
    assert engine.train_metrics.examples == 0


def test_nothing_is_compiled_by_default(
    make_compiled: MakeCompiled, examples: Examples, compiled_calls: list[tuple[str, int]]
) -> None:
    engine = make_compiled(False)
    engine.prepare(examples, BATCH)
    list(engine.steps(examples, torch.arange(8), BATCH, [1.0]))
    assert compiled_calls == []


def test_network_that_cannot_be_compiled_raises_config_error(
    make_compiled: MakeCompiled, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(function: object, **_: object) -> Callable[..., Any]:
        def call(*_: object) -> None:
            raise RuntimeError("No working C++ compiler found\nand so on")

        return call

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(
        ConfigError, match=r"device\.compile=on: .*No working C\+\+ compiler found\. Use"
    ):
        make_compiled(True).prepare(examples, BATCH)


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied", "/home"), KeyError("uid not found: 12345")],
    ids=["folder that cannot be written", "user without a name"],
)
def test_compiler_without_cache_folder_raises_config_error(
    make_compiled: MakeCompiled,
    examples: Examples,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(ConfigError, match=r"device\.compile=on: .*(/home|uid not found).* Use dev"):
        make_compiled(True).prepare(examples, BATCH)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's imports raise it
def test_compiled_steps_equal_eager_steps(make_compiled: MakeCompiled, examples: Examples) -> None:
    engines = [make_compiled(False), make_compiled(True)]
    for engine in engines:
        engine.prepare(examples, BATCH)
        for _ in range(5):
            list(engine.steps(examples, torch.arange(21), BATCH, [1.0, 0.5, 0.25]))
    eager, compiled = engines
    torch.testing.assert_close(
        compiled.model.state_dict(), eager.model.state_dict(), rtol=1e-4, atol=1e-6
    )
    expected = eager.evaluate(examples, BATCH).loss
    assert compiled.evaluate(examples, BATCH).loss == pytest.approx(expected, rel=1e-4)
