"""One rank of several: its examples, seeds, device and errors.

tests/training/test_distributed_runs.py runs several ranks.
"""

import pytest
import torch
import torch.distributed as dist
from helpers.config_changes import change
from helpers.devices import MakeEngine
from torch import nn

from cnnbench.config import Config, DeviceConfig
from cnnbench.data.device_data import epoch_order
from cnnbench.errors import ConfigError
from cnnbench.training.device import Device, resolve_device
from cnnbench.training.distributed import DistributedEngine, broadcast, is_peer_lost
from cnnbench.training.state import seed_for


@pytest.fixture
def rank_0_of_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment of rank 0 of three on one machine."""
    environment = {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)


def test_broadcast_in_one_process_returns_the_value() -> None:
    assert broadcast({"value": 1}) == {"value": 1}


@pytest.mark.parametrize("batch_size", [3, 7, 8])
def test_each_example_is_trained_on_by_one_rank(
    batch_size: int,
    rank_0_of_3: None,
    monkeypatch: pytest.MonkeyPatch,
    linear_network: nn.Sequential,
    make_engine: MakeEngine,
    config: Config,
    device: Device,
) -> None:
    engine = make_engine(linear_network, config, device, DistributedEngine)
    indices: list[int] = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        for batch in epoch_order(22, 0, 1).split(batch_size):
            indices += engine._part(batch).tolist()
    assert sorted(indices) == list(range(22))


def test_nonfinite_loss_of_another_rank_skips_the_step(
    rank_0_of_3: None,
    monkeypatch: pytest.MonkeyPatch,
    linear_network: nn.Sequential,
    make_engine: MakeEngine,
    config: Config,
    device: Device,
) -> None:
    change(config, train__on_nonfinite_loss="skip")
    engine = make_engine(linear_network, config, device, DistributedEngine)
    # Training sets it when it begins.
    monkeypatch.setattr(engine, "_network", linear_network, raising=False)
    # The other rank adds NaN.
    monkeypatch.setattr(dist, "all_reduce", lambda total: total.fill_(torch.nan))
    images = torch.zeros(2, 1, 4, 4, device=device.torch_device)
    labels = torch.tensor([0, 1], device=device.torch_device)
    _, training_loss, _ = engine._run(engine._objective, images, labels)
    measured, _ = engine._run(engine._measure, images, labels)
    assert training_loss.isnan().all()
    assert measured.isfinite().all()


def test_seeds_differ_by_rank_epoch_and_step() -> None:
    places = [(rank, epoch, step) for rank in range(3) for epoch in range(3) for step in range(3)]
    assert len({seed_for(0, *place) for place in places}) == len(places)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:49059. This is"
        ),
        RuntimeError(
            "[/gloo/transport/tcp/pair.cc:547] Read error [127.0.0.1]:5: Connection reset by peer"
        ),
        dist.DistBackendError("NCCL error"),
    ],
)
def test_peer_loss_is_recognized(error: Exception) -> None:
    assert is_peer_lost(error)


def test_peer_loss_is_recognized_as_cause_of_another_error() -> None:
    error = ConfigError("PyTorch cannot compile this network")
    error.__cause__ = dist.DistBackendError("NCCL error")
    assert is_peer_lost(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes do not match"),
        torch.OutOfMemoryError("out of memory"),
        OSError("No space left"),
    ],
)
def test_other_errors_are_not_peer_losses(error: Exception) -> None:
    assert not is_peer_lost(error)


def make_device_config(name: str, cuda_graphs: object) -> DeviceConfig:
    return DeviceConfig(
        name=name,
        precision="fp32",
        channels_last="auto",
        threads="auto",
        compile=False,
        cuda_graphs=cuda_graphs,
        deterministic=False,
        sync_batchnorm=False,
    )


def test_cuda_graphs_are_refused_with_several_ranks(rank_0_of_3: None) -> None:
    with pytest.raises(ConfigError, match=r"device\.cuda_graphs=true is for one process"):
        resolve_device(make_device_config("cpu", True))


def test_each_rank_uses_its_gpu_without_cuda_graphs(
    rank_0_of_3: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    monkeypatch.setenv("LOCAL_RANK", "2")
    device = resolve_device(make_device_config("cuda", "auto"))
    assert (device.torch_device, device.cuda_graphs) == (torch.device("cuda", 2), False)


def test_more_ranks_than_gpus_are_refused(
    rank_0_of_3: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(
        ConfigError, match="3 processes on this machine need a GPU each, and it has 2"
    ):
        resolve_device(make_device_config("cuda", "auto"))
