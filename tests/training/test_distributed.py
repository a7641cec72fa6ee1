"""The share of each process; whole runs are in tests/training/test_distributed_runs.py."""

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
def told(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of the first of three processes on one machine."""
    for key, value in {
        "RANK": "0",
        "WORLD_SIZE": "3",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(key, value)
    return monkeypatch


def test_one_process_broadcasts_to_itself() -> None:
    assert broadcast({"value": 1}) == {"value": 1}


@pytest.mark.parametrize("batch_size", [3, 7, 8])
def test_each_example_is_in_the_share_of_one_process(
    told: pytest.MonkeyPatch,
    make_engine: MakeEngine,
    config: Config,
    device: Device,
    batch_size: int,
) -> None:
    engine = make_engine(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), config, device, DistributedEngine
    )
    taken: list[int] = []
    for rank in range(3):
        told.setenv("RANK", str(rank))
        taken += [
            int(each)
            for batch in epoch_order(22, 0, 1).split(batch_size)
            for each in engine._part(batch)
        ]
    assert sorted(taken) == list(range(22))


def test_a_step_is_skipped_where_the_loss_of_another_process_is_not_finite(
    told: pytest.MonkeyPatch, make_engine: MakeEngine, config: Config, device: Device
) -> None:
    change(config, train__on_nonfinite_loss="skip")
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).to(device.torch_device)
    engine = make_engine(network, config, device, DistributedEngine)
    told.setattr(engine, "_network", network, raising=False)  # it is made when training begins
    told.setattr(
        dist, "all_reduce", lambda total: total.fill_(torch.nan)
    )  # what the other process adds
    images, labels = (
        torch.zeros(2, 1, 4, 4, device=device.torch_device),
        torch.tensor([0, 1], device=device.torch_device),
    )
    _, training_loss, _ = engine._run(engine._objective, images, labels)
    measured, _ = engine._run(engine._measure, images, labels)
    assert (training_loss.isnan().all(), measured.isfinite().all()) == (True, True)


def test_seeds_differ_by_process_and_by_where_the_run_goes_on() -> None:
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
def test_the_loss_of_a_process_is_recognised(error: Exception) -> None:
    assert is_peer_lost(error)


def test_it_is_recognised_behind_another_error() -> None:
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
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_peer_lost(error)


def device_config(name: str, graph: object) -> DeviceConfig:
    return DeviceConfig(
        name=name,
        precision="fp32",
        channels_last="auto",
        threads="auto",
        compile=False,
        cuda_graphs=graph,
        deterministic=False,
        sync_batchnorm=False,
    )


def test_graphs_are_refused_for_several_processes(told: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"device\.cuda_graphs=true is for one process"):
        resolve_device(device_config("cpu", True))


def test_each_process_has_the_gpu_of_its_number_and_captures_nothing(
    told: pytest.MonkeyPatch,
) -> None:
    told.setattr("torch.cuda.is_available", lambda: True)
    told.setattr("torch.cuda.device_count", lambda: 4)
    told.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    told.setenv("LOCAL_RANK", "2")
    chosen = resolve_device(device_config("cuda", "auto"))
    assert (chosen.torch_device, chosen.cuda_graphs) == (torch.device("cuda", 2), False)


def test_more_processes_than_gpus_are_refused(told: pytest.MonkeyPatch) -> None:
    told.setattr("torch.cuda.is_available", lambda: True)
    told.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(
        ConfigError, match="3 processes on this machine need a GPU each, and it has 2"
    ):
        resolve_device(device_config("cuda", "auto"))
