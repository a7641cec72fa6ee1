"""Training that is resumed from its checkpoint ends with the bits of uninterrupted training."""

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.resumable_training import NewTraining, assert_resumes_to
from helpers.tape_engine import TapeEngine

from cnnbench.config import (
    AdagradConfig,
    AdamConfig,
    AdamWConfig,
    Config,
    ConstantConfig,
    MomentumConfig,
    MuonConfig,
    NesterovConfig,
    OptimizerConfig,
    RMSpropConfig,
    SgdConfig,
)
from cnnbench.errors import CheckpointError
from cnnbench.runs.records import read_rows
from cnnbench.training import checkpoint
from cnnbench.training.device import Device

OPTIMIZERS: list[OptimizerConfig] = [
    SgdConfig(lr=0.1, momentum=0.0, weight_decay=1e-4),
    MomentumConfig(lr=0.1, momentum=0.9, weight_decay=0.0),
    NesterovConfig(lr=0.1, momentum=0.9, weight_decay=0.0),
    AdagradConfig(lr=0.1, eps=1e-10, weight_decay=0.0),
    AdamConfig(lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0),
    AdamWConfig(lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01),
    RMSpropConfig(lr=0.01, alpha=0.99, eps=1e-8, momentum=0.9, weight_decay=0.0),
    MuonConfig(lr=0.02, momentum=0.95, weight_decay=0.0, fallback="adamw", fallback_lr=0.01),
]


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_resume_after_any_step_gives_the_same_bits(
    new_training: NewTraining, stop_after: int
) -> None:
    interrupted = new_training("interrupted")
    interrupted.train(stop_after)
    assert_resumes_to(new_training("uninterrupted"), interrupted)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_resume_after_a_stop_in_any_evaluation_gives_the_same_bits(
    new_training: NewTraining, epoch: int
) -> None:
    interrupted = new_training("interrupted")
    interrupted.train(epoch, in_evaluation=True)
    assert_resumes_to(new_training("uninterrupted"), interrupted)


def test_resume_after_every_step_gives_the_same_bits(new_training: NewTraining) -> None:
    interrupted = new_training("interrupted")
    for _ in range(8):
        interrupted.train(stop_after=1)
    assert_resumes_to(new_training("uninterrupted"), interrupted)


@EACH_DEVICE
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda config: config.name)
def test_every_optimizer_resumes_with_the_same_bits(
    new_training: NewTraining, config: Config, optimizer: OptimizerConfig
) -> None:
    change(config, optimizer=optimizer)
    interrupted = new_training("interrupted")
    interrupted.train(stop_after=4)
    assert_resumes_to(new_training("uninterrupted"), interrupted)


FAST = [config for config in OPTIMIZERS if config.name in ("momentum", "adam", "muon")]
SLOW = [pytest.param(config, marks=pytest.mark.slow) for config in OPTIMIZERS if config not in FAST]


@EACH_DEVICE
@pytest.mark.parametrize("optimizer", [*FAST, *SLOW], ids=lambda config: config.name)
def test_every_optimizer_resumes_with_the_same_bits_with_cuda_graphs(
    new_training: NewTraining, config: Config, device: Device, optimizer: OptimizerConfig
) -> None:
    if optimizer.name == "rmsprop" and device.torch_device.type == "cpu":
        pytest.skip("PyTorch can capture RMSprop only on a GPU")
    change(config, optimizer=optimizer)
    interrupted = new_training("interrupted", TapeEngine)
    interrupted.train(stop_after=4)
    assert_resumes_to(new_training("uninterrupted", TapeEngine), interrupted)


@pytest.mark.parametrize("on_nonfinite_loss", ["stop", "skip"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_precision_resumes_with_the_same_bits(
    new_training: NewTraining, config: Config, precision: str, on_nonfinite_loss: str
) -> None:
    change(config, train__on_nonfinite_loss=on_nonfinite_loss)
    interrupted = new_training("interrupted", precision=precision)
    interrupted.train(stop_after=4)
    assert_resumes_to(new_training("uninterrupted", precision=precision), interrupted)


def test_resume_without_validation_set_gives_the_same_bits(
    new_training: NewTraining, config: Config
) -> None:
    change(config, data__validation=0)
    interrupted = new_training("interrupted")
    interrupted.train(stop_after=2)
    assert_resumes_to(new_training("uninterrupted"), interrupted)


def test_resume_with_more_epochs_gives_the_bits_of_training_them_at_once(
    new_training: NewTraining, config: Config
) -> None:
    change(config, scheduler=ConstantConfig(warmup_epochs=0.0))
    change(config, train__epochs=2)
    interrupted = new_training("interrupted")
    interrupted.train()
    change(config, train__epochs=3)
    assert_resumes_to(new_training("uninterrupted"), interrupted)


def test_resume_uses_the_lr_of_the_changed_configuration(
    new_training: NewTraining, config: Config
) -> None:
    change(config, scheduler=ConstantConfig(warmup_epochs=0.0))
    interrupted = new_training("interrupted")
    interrupted.train(stop_after=4)
    change(config, optimizer__lr=0.5)
    assert [row["lr"] for row in interrupted.train()] == [0.1, 0.5, 0.5]


def test_checkpoint_of_another_network_is_refused(
    new_training: NewTraining, config: Config, make_engine: MakeEngine
) -> None:
    interrupted = new_training("interrupted")
    interrupted.train(stop_after=4)
    interrupted.make = lambda: make_engine(torch.nn.Linear(2, 2), config, interrupted.engine.device)
    with pytest.raises(CheckpointError, match="does not fit this run"):
        interrupted.train()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", [{"epoch": 7}]),
        ("rows", "x"),
        ("step", "many"),
        ("optimizers", []),
        ("generators", {}),
        ("sums", torch.zeros(7)),
        ("wall_s", 3),
        ("train_s", None),
    ],
)
def test_checkpoint_with_invalid_values_is_refused(
    new_training: NewTraining, key: str, value: object
) -> None:
    interrupted = new_training("interrupted")
    interrupted.train(stop_after=4)
    state = checkpoint.load_checkpoint(interrupted.run.checkpoints / "last.pt")
    checkpoint.save(interrupted.run.checkpoints / "last.pt", {**state, key: value})
    with pytest.raises(CheckpointError, match="does not fit this run"):
        interrupted.train()


def test_rows_without_peak_memory_are_resumed_and_recorded(
    new_training: NewTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = new_training("interrupted")
    monkeypatch.setattr(Device, "peak_memory_gib", lambda _: None)
    interrupted.train(stop_after=4)
    monkeypatch.setattr(Device, "peak_memory_gib", lambda _: 1.5)
    interrupted.train()
    rows = list(read_rows(interrupted.run.path))
    assert [row.get("peak_gib") for row in rows] == [None, 1.5, 1.5]
