"""A frozen part of a network keeps its bits, and the optimizers do not know it."""

from typing import Any

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.tape_engine import Net, TapeEngine

from cnnbench.config import AdamWConfig, Config, MuonConfig, NesterovConfig, OptimizerConfig
from cnnbench.data.device_data import Examples
from cnnbench.errors import ConfigError
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine
from cnnbench.training.freeze import freeze
from cnnbench.training.sync_batch_norm import use_sync_batch_norm

BACKBONE = [name for name in Net().state_dict() if name not in ("5.weight", "5.bias")]
OPTIMIZERS: list[OptimizerConfig] = [
    NesterovConfig(lr=0.1, momentum=0.9, weight_decay=0.1),
    AdamWConfig(lr=0.1, betas=[0.9, 0.99], eps=1e-8, weight_decay=0.1),
    MuonConfig(lr=0.1, momentum=0.9, weight_decay=0.1, fallback="adamw", fallback_lr=0.1),
]


def copy_state(engine: EagerEngine) -> dict[str, Any]:
    return {name: value.clone() for name, value in engine.model.state_dict().items()}


def train(engine: EagerEngine, examples: Examples, epochs: int = 2) -> None:
    engine.prepare(examples, 8)
    for _ in range(epochs):
        order = torch.arange(len(examples))
        list(engine.steps(examples, order, 8, [1.0] * 3))
        engine.evaluate(examples, 8)


@EACH_DEVICE
@pytest.mark.parametrize("engine_class", [EagerEngine, TapeEngine])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.name)
def test_frozen_weights_and_statistics_keep_their_bits(
    optimizer: OptimizerConfig,
    engine_class: type[EagerEngine],
    device: Device,
    config: Config,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(config, optimizer=optimizer, train__ema_decay=0.9, train__on_nonfinite_loss="skip")
    change(config, train__grad_clip_norm=1.0)
    engine = make_engine(Net(), config, device, engine_class)
    freeze(engine, BACKBONE)
    before = copy_state(engine)
    train(engine, examples)
    after = engine.model.state_dict()
    assert engine.name == ("graph" if engine_class is TapeEngine else "eager")
    for name, value in before.items():
        assert torch.equal(after[name], value) == (name in BACKBONE), name
        average = engine.eval_model.state_dict()[name]
        assert torch.equal(average, value) == (name in BACKBONE), name


def test_layer_that_is_not_frozen_trains_inside_a_frozen_network(
    config: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> None:
    engine = make_engine(Net(), config, device)
    freeze(engine, [name for name in Net().state_dict() if name != "0.weight"])
    before = copy_state(engine)
    train(engine, examples)
    changed = [
        name
        for name, value in engine.model.state_dict().items()
        if not torch.equal(before[name], value)
    ]
    assert changed == ["0.weight"]


def test_batch_normalization_with_a_trained_parameter_uses_the_batch(
    config: Config, device: Device, make_engine: MakeEngine
) -> None:
    engine = make_engine(Net(), config, device)
    freeze(engine, [name for name in BACKBONE if name != "1.bias"])
    engine.model.train()
    assert engine.model[1].training  # type: ignore[index]  # a Sequential
    assert not engine.model[1].weight.requires_grad  # type: ignore[index]  # a Sequential


def test_frozen_batch_normalization_is_not_synchronized(
    config: Config, device: Device, make_engine: MakeEngine
) -> None:
    engine = make_engine(Net(), config, device)
    assert len(use_sync_batch_norm(Net())) == 1
    freeze(engine, BACKBONE)
    assert use_sync_batch_norm(engine.model) == []


def test_optimizers_have_only_what_is_trained(
    config: Config, device: Device, make_engine: MakeEngine
) -> None:
    change(config, optimizer=OPTIMIZERS[2])
    engine = make_engine(Net(), config, device)
    assert len(engine.optimizers) == 2
    freeze(engine, BACKBONE)
    (optimizer,) = engine.optimizers
    assert [tuple(weight.shape) for weight in optimizer.param_groups[0]["params"]] == [
        (4, 12),
        (4,),
    ]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.name)
def test_state_of_optimizers_has_only_what_is_trained(
    optimizer: OptimizerConfig, config: Config, device: Device, make_engine: MakeEngine
) -> None:
    change(config, optimizer=optimizer)
    engine = make_engine(Net(), config, device)
    freeze(engine, BACKBONE)
    states = [optimizer.state_dict()["state"] for optimizer in engine.optimizers]
    assert len(states) == 1
    assert states[0].keys() <= {0, 1}


def test_freezing_everything_is_refused(
    config: Config, device: Device, make_engine: MakeEngine
) -> None:
    engine = make_engine(Net(), config, device)
    with pytest.raises(ConfigError, match="leaves no parameter to train"):
        freeze(engine, list(Net().state_dict()))
