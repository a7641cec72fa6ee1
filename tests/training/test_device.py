"""The device: its choice by the configuration, and the settings of the whole process."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.config_changes import change

from cnnbench.config import Config, DeviceConfig
from cnnbench.errors import ConfigError
from cnnbench.training import device as device_module
from cnnbench.training.device import Device, describe_threads, resolve_device, setup_device


def set_available_devices(
    monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool = False, capability: int = 8
) -> None:
    """Make PyTorch report these devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (capability, 0))


def make_config(
    name: str, precision: str = "auto", channels_last: object = "auto", cuda_graphs: object = "auto"
) -> DeviceConfig:
    return DeviceConfig(
        name=name,
        precision=precision,
        channels_last=channels_last,
        threads="auto",
        compile=False,
        cuda_graphs=cuda_graphs,
        deterministic=False,
        sync_batchnorm=False,
    )


def test_auto_device_is_available() -> None:
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.append("mps")
    if torch.cuda.is_available():
        available.append("cuda")
    assert resolve_device(make_config("auto")).torch_device.type == available[-1]


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_device_prefers_cuda_then_mps(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_available_devices(monkeypatch, cuda=cuda, mps=mps)
    assert resolve_device(make_config("auto")).torch_device.type == expected


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_unavailable_device_is_refused_with_available_devices(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_available_devices(monkeypatch, cuda=False)
    with pytest.raises(ConfigError, match=rf"device={name}: .*Present: cpu\."):
        resolve_device(make_config(name))


@pytest.mark.parametrize(
    ("name", "capability", "graph", "expected"),
    [
        ("cuda", 8, "auto", "bf16"),
        ("cuda", 8, False, "tf32"),
        ("cuda", 7, "auto", "fp32"),
        ("mps", 8, "auto", "fp32"),
        ("cpu", 8, "auto", "fp32"),
    ],
)
def test_auto_precision_depends_on_gpu_generation_and_cuda_graphs(
    name: str, capability: int, graph: object, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_available_devices(monkeypatch, cuda=True, mps=True, capability=capability)
    monkeypatch.setattr(device_module, "_cpu_info", lambda key: "fpu avx2")
    assert resolve_device(make_config(name, cuda_graphs=graph)).precision == expected


@pytest.mark.parametrize(
    ("flags", "intensity", "expected"),
    [
        ("fpu amx_bf16", 200.0, "bf16"),
        ("fpu avx512_bf16", 200.0, "bf16"),
        ("fpu amx_bf16", 199.0, "fp32"),
        ("fpu avx512f avx2", 2000.0, "fp32"),
        ("", 2000.0, "fp32"),
    ],
)
def test_auto_precision_of_a_cpu_depends_on_bf16_support_and_intensity(
    flags: str, intensity: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "_cpu_info", lambda key: flags)
    assert resolve_device(make_config("cpu"), lambda: intensity).precision == expected


@pytest.mark.parametrize(("name", "expected"), [("cuda", True), ("cpu", False), ("mps", False)])
def test_auto_cuda_graphs_are_on_only_for_cuda(
    name: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_available_devices(monkeypatch, cuda=True, mps=True)
    assert resolve_device(make_config(name)).cuda_graphs is expected


def test_cuda_graphs_are_refused_without_cuda() -> None:
    with pytest.raises(ConfigError, match=r"device\.cuda_graphs=true needs device=cuda, not cpu"):
        resolve_device(make_config("cpu", cuda_graphs=True))


@pytest.mark.parametrize(("name", "capability"), [("cpu", 8), ("mps", 8), ("cuda", 7)])
def test_tf32_is_refused_without_device_support(
    name: str, capability: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_available_devices(monkeypatch, cuda=True, mps=True, capability=capability)
    with pytest.raises(ConfigError, match=r"device\.precision=tf32"):
        resolve_device(make_config(name, "tf32"))


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("cpu", "fp32", True),
        ("cuda", "tf32", False),
        ("cuda", "fp32", False),
        ("cuda", "bf16", True),
        ("cuda", "fp16", True),
        ("mps", "bf16", False),
    ],
)
def test_auto_channels_last_is_the_faster_layout(
    name: str, precision: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_available_devices(monkeypatch, cuda=True, mps=True)
    assert resolve_device(make_config(name, precision)).channels_last is expected


@pytest.mark.parametrize(("name", "wanted"), [("cpu", False), ("cuda", True)])
def test_configured_channels_last_is_used(
    name: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_available_devices(monkeypatch, cuda=True)
    assert resolve_device(make_config(name, "fp32", wanted)).channels_last is wanted


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("fp32", None), ("tf32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_autocast_is_only_for_half_precision(precision: str, expected: torch.dtype | None) -> None:
    assert Device(torch.device("cpu"), precision, False).autocast_dtype == expected


def test_device_description_is_not_empty(device: Device) -> None:
    assert device.describe().strip()


def test_peak_memory_includes_a_tensor_in_use(device: Device) -> None:
    block = torch.ones(1024**2, device=device.torch_device)  # 4 MiB
    assert device.peak_memory_gib() >= block.nbytes / 1024**3


def test_setup_sets_the_seed(config: Config) -> None:
    setup_device(resolve_device(config.device), config.device, seed=7)
    drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(7)))


def test_setup_sets_the_number_of_threads(config: Config) -> None:
    change(config, device__threads=3)
    setup_device(resolve_device(config.device), config.device, seed=0)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("default", "usable", "quota", "expected", "described"),
    [
        (8, 8, None, 8, "8 threads"),
        (8, 4, None, 4, "4 threads"),  # affinity allows 4
        (2, 8, None, 2, "2 threads"),  # OMP_NUM_THREADS=2
        (8, 2, 2.5, 2, "2 threads (CPU quota 2.5)"),
        (8, 1, 0.5, 1, "1 thread (CPU quota 0.5)"),
        (8, 8, 12.0, 8, "8 threads"),
        (1, 1, 1.0, 1, "1 thread"),
    ],
)
def test_auto_threads_are_limited_by_affinity_environment_and_quota(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    default: int,
    usable: int,
    quota: float | None,
    expected: int,
    described: str,
) -> None:
    monkeypatch.setattr(device_module, "_DEFAULT_THREADS", default)
    monkeypatch.setattr(device_module, "usable_cpus", lambda: usable)
    monkeypatch.setattr(device_module, "cpu_quota", lambda: quota)
    change(config, device__threads="auto")
    setup_device(resolve_device(config.device), config.device, seed=0)
    assert torch.get_num_threads() == expected
    assert describe_threads("auto") == described


def test_configured_threads_ignore_the_cpu_quota(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "usable_cpus", lambda: 1)
    monkeypatch.setattr(device_module, "cpu_quota", lambda: 1.0)
    change(config, device__threads=3)
    setup_device(resolve_device(config.device), config.device, seed=0)
    assert torch.get_num_threads() == 3
    assert describe_threads(3) == "3 threads"


def test_deterministic_applies_to_all_libraries(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    change(config, device__deterministic=True)
    setup_device(resolve_device(config.device), config.device, seed=0)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def process_settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,
    )


def test_setup_resets_settings_of_the_previous_run(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    change(config, device__threads="auto")
    setup_device(resolve_device(config.device), config.device, seed=0)
    first = process_settings()
    change(config, device__threads=torch.get_num_threads() + 1, device__deterministic=True)
    setup_device(resolve_device(config.device), config.device, seed=0)
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32"
    change(config, device__threads="auto", device__deterministic=False)
    setup_device(resolve_device(config.device), config.device, seed=0)
    assert process_settings() == first


def test_fp32_disables_tf32_in_all_libraries(config: Config) -> None:
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32"
    setup_device(resolve_device(config.device), config.device, seed=0)
    assert (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,
    ) == ("ieee", "ieee")


def fill_memory(mebibytes: int) -> None:
    """Allocate and free this much memory."""
    torch.ones(mebibytes * 2**18)  # an element has 4 bytes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak of a process")
def test_setup_resets_peak_memory_on_the_cpu(config: Config, device: Device) -> None:
    setup_device(device, config.device, seed=0)
    fill_memory(512)
    before = device.peak_memory_gib()
    setup_device(device, config.device, seed=0)
    fill_memory(64)
    now = device.peak_memory_gib()
    assert before is not None
    assert now is not None
    assert now < before - 0.25


def test_peak_memory_is_none_if_an_earlier_run_may_have_caused_it(
    config: Config, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_permission_error(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", raise_permission_error)
    peaks = iter([1.0, 1.0, 2.0])  # before this run, in it, and later in it
    monkeypatch.setattr(device_module, "_process_peak_gib", lambda: next(peaks))
    monkeypatch.setattr(device_module, "_earlier_peak_gib", 0.0)
    setup_device(device, config.device, seed=0)
    assert [device.peak_memory_gib(), device.peak_memory_gib()] == [None, 2.0]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_setup_resets_peak_memory_on_cuda(config: Config) -> None:
    change(config, device__name="cuda")
    device = resolve_device(config.device)
    setup_device(device, config.device, seed=0)
    block = torch.ones(1024**2, device="cuda")
    before = device.peak_memory_gib()
    del block
    setup_device(resolve_device(config.device), config.device, seed=0)
    assert device.peak_memory_gib() < before


@pytest.mark.parametrize(
    ("limit", "is_limited"), [(2**20, True), (None, False), (9223372036854771712, False)]
)
def test_cpu_memory_is_the_limit_of_the_container(
    limit: int | None, is_limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = Device(torch.device("cpu"), "fp32", channels_last=False)
    monkeypatch.setattr(device_module, "memory_limit", lambda: None)
    machine = cpu.whole_memory()
    monkeypatch.setattr(device_module, "memory_limit", lambda: limit)
    assert cpu.whole_memory() == (limit if is_limited else machine)


def test_cpu_memory_is_more_than_the_process_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_module, "memory_limit", lambda: None)
    cpu = Device(torch.device("cpu"), "fp32", channels_last=False)
    assert cpu.whole_memory() > cpu.peak_memory_gib() * 2**30


def test_gpu_memory_is_that_of_its_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=12345)
    )
    assert Device(torch.device("cuda"), "bf16", channels_last=True).whole_memory() == 12345
