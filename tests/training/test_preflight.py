"""Training that a machine cannot hold is refused before it starts, and nothing that it might hold is."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.command import Command

from cnnbench.training.device import Device

KIB = 1024
LENET = (
    "data=sample",
    "device=cpu",
    "device.precision=fp32",
    "data.resize=28",
    "train.batch_size=256",
)
WEIGHTS, ACTIVATIONS = (
    241.04 * KIB,
    8.66 * 1024 * KIB,
)  # as `cnnbench summary` shows them; sgd keeps nothing


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnbench.training.run.train", lambda *_, **__: SimpleNamespace(value=0.0))


def give(monkeypatch: pytest.MonkeyPatch, memory: float) -> None:
    """Let the device have so many bytes."""
    monkeypatch.setattr(Device, "whole_memory", lambda _: int(memory))


def test_activations_beyond_the_memory_are_answered_with_the_batch(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, 4 * 1024 * KIB)
    done = within(*LENET)
    assert done.returncode == 2
    assert "train.batch_size=256 data.resize=28 takes at least 8.9 MiB" in done.stderr
    assert "cpu has 4.0 MiB in all.\nLower train.batch_size or data.resize." in done.stderr


def test_weights_beyond_the_memory_are_answered_with_the_network(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, 1.5 * WEIGHTS)
    done = within(*LENET)
    assert done.returncode == 2
    assert "Lower data.resize, or take a smaller network." in done.stderr


@pytest.mark.parametrize(("share", "code"), [(0.99, 2), (1.01, 0)])
def test_what_fits_barely_is_not_refused(
    share: float, code: int, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, share * (WEIGHTS + ACTIVATIONS))
    assert within(*LENET).returncode == code


def test_a_batch_has_no_more_examples_than_there_are(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, 2 * WEIGHTS + ACTIVATIONS)
    assert within(*LENET, "train.batch_size=100000", "data.train_examples=256").returncode == 0


def test_a_compiler_may_keep_less_activations(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, 3 * WEIGHTS)
    assert within(*LENET, "device.compile=on").returncode == 0


def test_a_gpu_may_keep_less_activations(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, 3 * WEIGHTS)
    gpu = Device(torch.device("cuda"), "fp32", channels_last=False)
    monkeypatch.setattr("cnnbench.training.device.resolve_device", lambda *_: gpu)
    assert within(*LENET).returncode == 0


def test_a_network_of_ones_own_may_keep_less_activations(
    within: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give(monkeypatch, 3 * WEIGHTS)
    (tmp_path / "frugal.py").write_text("from cnnbench.models.simple_cnn import SimpleCNN\n")
    assert within(*LENET, "model=simple_cnn", "model.name=frugal:SimpleCNN").returncode == 0
