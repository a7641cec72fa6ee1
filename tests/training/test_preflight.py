"""Training that needs more memory than the device has is refused before it starts."""

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
# From `cnnbench summary`. SGD without momentum adds nothing.
WEIGHTS, ACTIVATIONS = 241.04 * KIB, 8.66 * 1024 * KIB


@pytest.fixture(autouse=True)
def _skip_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnbench.training.run.train", lambda *_, **__: SimpleNamespace(value=0.0))


def set_device_memory(monkeypatch: pytest.MonkeyPatch, memory: float) -> None:
    """Set the memory of the device in bytes."""
    monkeypatch.setattr(Device, "whole_memory", lambda _: int(memory))


def test_too_many_activations_suggest_a_smaller_batch(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_device_memory(monkeypatch, 4 * 1024 * KIB)
    done = within(*LENET)
    assert done.returncode == 2
    assert "train.batch_size=256 data.resize=28 takes at least 8.9 MiB" in done.stderr
    assert (
        "cpu has 4.0 MiB in all.\nLower train.batch_size or data.resize, or split the batch by "
        "train.accumulate=4 into micro-batches of 64 images." in done.stderr
    )
    assert within(*LENET, "train.accumulate=4").returncode == 0
    assert within(*LENET, "train.accumulate=2").returncode == 2


def test_too_many_weights_suggest_a_smaller_network(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_device_memory(monkeypatch, 1.5 * WEIGHTS)
    done = within(*LENET)
    assert done.returncode == 2
    assert "Lower data.resize, or take a smaller network." in done.stderr


@pytest.mark.parametrize(("share", "code"), [(0.99, 2), (1.01, 0)])
def test_memory_limit_is_exact(
    share: float, code: int, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_device_memory(monkeypatch, share * (WEIGHTS + ACTIVATIONS))
    assert within(*LENET).returncode == code


def test_batch_is_limited_to_the_number_of_examples(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_device_memory(monkeypatch, 2 * WEIGHTS + ACTIVATIONS)
    assert within(*LENET, "train.batch_size=100000", "data.train_examples=256").returncode == 0


def test_compiled_networks_may_keep_fewer_activations(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_device_memory(monkeypatch, 3 * WEIGHTS)
    assert within(*LENET, "device.compile=on").returncode == 0


def test_gpus_may_keep_fewer_activations(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    set_device_memory(monkeypatch, 3 * WEIGHTS)
    gpu = Device(torch.device("cuda"), "fp32", channels_last=False)
    monkeypatch.setattr("cnnbench.training.device.resolve_device", lambda *_: gpu)
    assert within(*LENET).returncode == 0


def test_custom_models_may_keep_fewer_activations(
    within: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_device_memory(monkeypatch, 3 * WEIGHTS)
    (tmp_path / "frugal.py").write_text("from cnnbench.models.simple_cnn import SimpleCNN\n")
    assert within(*LENET, "model=simple_cnn", "model.name=frugal:SimpleCNN").returncode == 0


def test_split_is_of_the_batch_that_the_examples_allow(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_device_memory(monkeypatch, 4 * 1024 * KIB)
    done = within(*LENET, "train.batch_size=100000", "data.train_examples=256")
    assert "train.accumulate=4 into micro-batches of 64 images." in done.stderr


def test_no_split_is_advised_where_no_image_fits(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_device_memory(monkeypatch, 2 * WEIGHTS + ACTIVATIONS / 300)
    done = within(*LENET)
    assert done.returncode == 2
    assert "Lower train.batch_size or data.resize. " in done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("train.patience=3", "data.validation=0"),
            "A validation set is needed for train.patience=3, as the test set must not choose",
        ),
        (
            ("train.patience=3", "train.select_by=loss", "data.validation=0"),
            "A validation set is needed for train.patience=3 and train.select_by=loss, as the",
        ),
        (
            (
                "model=bn_lenet",
                "data.train_examples=70",
                "train.batch_size=64",
                "train.accumulate=4",
            ),
            "That is a micro-batch of the last batch, of 6 examples: train.accumulate=4 splits it "
            "too far. Lower it, or take another train.batch_size.",
        ),
    ],
)
def test_configuration_is_refused_before_training(
    within: Command, overrides: tuple[str, ...], message: str
) -> None:
    done = within("data=sample", "device=cpu", *overrides)
    assert done.returncode == 2
    assert message in done.stderr
