"""Jobs that follow one another in a process have the same bits as alone, and leave nothing."""

import gc
import logging
import os
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command import TINY, Command
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn

from cnnbench.api import train
from cnnbench.cli.hydra_app import RunCallback
from cnnbench.data import cache, public_files
from cnnbench.data.catalog import FILES, PublicDataset
from cnnbench.runs.directory import RunDirectory
from cnnbench.training import run
from cnnbench.training.device import cleaned_up
from cnnbench.training.state import TrainingHistory

ONE_EPOCH = (*TINY, "train.epochs=1", "train.fail_if_not_learning=false")

# overrides of earlier jobs, which must not affect a later one
UNLIKE = (
    ("seed=7", "device.precision=bf16", "device.threads=2"),
    ("device.deterministic=true", "device.channels_last=false", "train.ema_decay=0.9"),
    (
        "model=bn_lenet",
        "optimizer=adam",
        "augment=hflip_translate",
        "data.resize=32",
        "train.grad_clip_norm=1",
    ),
)


@pytest.fixture(autouse=True)
def _empty_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_job_after_others_has_the_same_bits_as_alone(forks: ForkServer, tmp_path: Path) -> None:
    alone = forks.run(
        *TINY, "model=mlp", "seed=3", "device.threads=1", "hydra.run.dir=alone", folder=tmp_path
    )
    assert alone.returncode == 0
    for overrides in UNLIKE:
        train(*ONE_EPOCH, *overrides)
    after_others = train(*TINY, "model=mlp", "seed=3", "device.threads=1").directory
    assert find_differences(after_others, tmp_path / "alone") == []


def test_jobs_of_a_sweep_have_the_same_bits_as_alone(within: Command, tmp_path: Path) -> None:
    assert within("-m", *TINY, "sweep=both", "seed=1,2").returncode == 0
    jobs = sorted((tmp_path / "outputs" / "sweeps" / "both").glob("*seed=*"))
    assert [
        find_differences(job, train(*TINY, f"seed={seed}").directory)
        for seed, job in enumerate(jobs, 1)
    ] == [[], []]


def read_process_settings() -> dict[str, Any]:
    """Return all settings of the process that a job may change."""
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "matmul": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.conv.fp32_precision),
        "deterministic": torch.get_deterministic_debug_mode(),
        "grad": torch.is_grad_enabled(),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "warnings": list(warnings.filters),
    }


def test_settings_depend_on_the_last_job_only() -> None:
    train(*ONE_EPOCH)
    alone = read_process_settings()
    train(*ONE_EPOCH, "device.threads=2", "device.deterministic=true", "device.precision=bf16")
    train(*ONE_EPOCH)
    assert read_process_settings() == alone


class Remains:
    """Objects and resources of the process after a job has ended."""

    def __init__(self) -> None:
        gc.collect()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from deprecated objects of torch
            alive = gc.get_objects()
            self.tensors = sum(issubclass(type(value), torch.Tensor) for value in alive)
        self.descriptors = Counter(map(_target, Path("/proc/self/fd").iterdir()))
        self.threads = sorted(thread.name for thread in threading.enumerate())
        self.handlers = len(logging.getLogger().handlers) + len(
            logging.getLogger("cnnbench").handlers
        )


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # the descriptor of the list of descriptors is closed
        return ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "ends", ["finished", pytest.param("stopped", marks=pytest.mark.slow), "failed"]
)
def test_third_job_leaves_as_much_as_the_second(ends: str) -> None:
    def on_epoch(row: object) -> bool:
        if ends == "failed":
            raise ValueError("a job that fails")
        return ends == "finished"

    remains = []
    for seed in range(3):
        try:
            train(*ONE_EPOCH, f"seed={seed}", on_epoch=on_epoch)
        except ValueError:
            assert ends == "failed"
        remains.append(vars(Remains()))
    assert remains[2] == remains[1]


def test_jobs_of_a_sweep_leave_no_tensors(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = []
    train_run = run.train

    def counting(*arguments: Any, **more: Any) -> Any:
        tensors.append(Remains().tensors)
        return train_run(*arguments, **more)

    monkeypatch.setattr(run, "train", counting)
    assert within("-m", *ONE_EPOCH, "seed=1,2,3").returncode == 0
    assert len(tensors) == 3
    assert tensors[2] == tensors[1]


def test_dataset_files_are_read_once_in_a_sweep(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.clear()
    opened: list[str] = []
    read = public_files.read_verified

    def reading(dataset: PublicDataset, file: str, path: Path) -> bytes:
        opened.append(path.name)
        return read(dataset, file, path)

    monkeypatch.setattr(public_files, "read_verified", reading)
    within("-m", *ONE_EPOCH, "seed=1,2,3")
    assert sorted(opened) == sorted(f"{name}.gz" for name in FILES)


def test_hydra_composes_each_choice_of_a_sweep_once(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    composed: list[list[str]] = []

    def finish(config: Any, run_directory: RunDirectory, *_: Any, **__: Any) -> TrainingHistory:
        seeds.append(config.seed)
        with run_directory.recorded_status():
            return TrainingHistory([{"test_accuracy": 0.0}], None)

    monkeypatch.setattr(run, "train", finish)
    compose = ConfigLoaderImpl.load_sweep_config

    def counting(loader: ConfigLoaderImpl, master_config: Any, sweep_overrides: list[str]) -> Any:
        composed.append(sweep_overrides)
        return compose(loader, master_config, sweep_overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counting)
    assert within("-m", *ONE_EPOCH, "model=lenet,mlp", "seed=1,2,3").returncode == 0
    assert seeds == [1, 2, 3] * 2
    models = [word for words in composed for word in words if word.startswith("model=")]
    assert models == ["model=lenet", "model=mlp"]


def test_results_of_jobs_have_no_configuration(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: list[JobReturn] = []
    end = RunCallback.on_job_end

    def collecting(callback: RunCallback, config: Any, job_return: JobReturn, **more: Any) -> None:
        end(callback, config, job_return, **more)
        returned.append(job_return)

    monkeypatch.setattr(RunCallback, "on_job_end", collecting)
    within("-m", *ONE_EPOCH, "seed=1,2")
    assert [(result.cfg, result.hydra_cfg) for result in returned] == [(None, None)] * 2


def test_no_hydra_is_left_after_a_sweep(within: Command) -> None:
    assert within("-m", *ONE_EPOCH, "seed=1,2").returncode == 0
    assert not GlobalHydra.instance().is_initialized()


def test_compiler_is_reset_after_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Compiler:
        @staticmethod
        def reset() -> None:
            calls.append("reset")

    monkeypatch.setitem(sys.modules, "torch._dynamo", Compiler)
    with pytest.raises(ValueError, match="a job that fails"), cleaned_up():
        raise ValueError("a job that fails")
    assert calls == ["reset"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("override", ["device.cuda_graphs=true", "device.cuda_graphs=false"])
def test_jobs_on_a_gpu_leave_no_memory_there(override: str) -> None:
    reserved = []
    for seed in range(3):
        train(*ONE_EPOCH, "device=cuda", override, f"seed={seed}")
        reserved.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert reserved[2] == reserved[1]
