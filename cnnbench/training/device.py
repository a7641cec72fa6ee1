"""Choose the device of a run, set it up, and describe it."""

import ctypes
import gc
import os
import platform
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from msgspec.structs import replace

from cnnbench.analysis.format import format_count
from cnnbench.config import Config, DeviceConfig, TrainConfig, join_words
from cnnbench.errors import ConfigError
from cnnbench.runs.machine import cpu_quota, memory_limit, usable_cpus
from cnnbench.runs.torchrun_env import processes

__all__ = [
    "Device",
    "cleaned_up",
    "describe_threads",
    "device_config",
    "images_per_step",
    "resolve_device",
    "setup_device",
]

_DEFAULT_THREADS = torch.get_num_threads()  # OMP_NUM_THREADS, or one per physical core
_GIB = 1024**3
_earlier_peak_gib = 0.0  # peak of earlier runs in this process, if the system cannot reset it
MIN_BF16_INTENSITY = 200.0  # multiply-adds per parameter and step, see benchmarks/NOTES.md
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


@dataclass(frozen=True)
class Device:
    """A torch device, with the precision, memory layout and execution of training on it.

    `precision` is fp64, fp32, tf32, bf16 or fp16. With `compile` the network is compiled. With
    `cuda_graphs` training steps are captured in CUDA graphs. With `batch_last` convolutions that
    are faster with the batch last are computed so.
    """

    torch_device: torch.device
    precision: str
    channels_last: bool
    compile: bool = False
    cuda_graphs: bool = False
    batch_last: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights, images and logits."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)

    @property
    def backend(self) -> str:
        """The torch.distributed backend of several processes."""
        return "nccl" if self.torch_device.type == "cuda" else "gloo"

    def describe(self) -> str:
        """Return the manufacturer's name of the chip."""
        if self.torch_device.type == "cuda":
            return torch.cuda.get_device_name(self.torch_device)
        return _cpu_info("model name") or platform.processor() or platform.machine()

    def synchronize(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.torch_device.type != "cpu":
            torch.accelerator.synchronize(self.torch_device)

    def whole_memory(self) -> int:
        """Return the total memory in bytes, free or not.

        On a CUDA GPU it is that of the GPU, otherwise that of the machine or the container.
        """
        if self.torch_device.type == "cuda":
            return torch.cuda.get_device_properties(self.torch_device).total_memory
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return min(machine, memory_limit() or machine)

    def peak_memory_gib(self) -> float | None:
        """Return the peak memory since `setup_device`, of tensors on a GPU or of the process.

        It is None if an earlier run in the process had a higher peak, and the system cannot reset
        the peak.
        """
        if self.torch_device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.torch_device) / _GIB
        peak_gib = _process_peak_gib()
        return peak_gib if peak_gib > _earlier_peak_gib else None

    def describe_memory(self) -> str:
        """Return a sentence on total and free memory, and on the memory of tensors."""
        if self.torch_device.type != "cuda":
            return f"This process has held up to {_process_peak_gib():.2f} GiB."
        free, total = (size / _GIB for size in torch.cuda.mem_get_info(self.torch_device))
        held = torch.cuda.memory_allocated(self.torch_device) / _GIB
        peak = torch.cuda.max_memory_allocated(self.torch_device) / _GIB
        tensors = f"tensors hold {held:.2f}, at most {peak:.2f}"
        return f"Of {total:.2f} GiB, {free:.2f} are free; {tensors}."


def _multiplies_in_bf16() -> bool:
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(_cpu_info("flags").split())


def _cpu_info(key: str) -> str:
    """Return the value of `key` for the first core in /proc/cpuinfo; "" on other systems."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _process_peak_gib() -> float:
    """Return the peak memory of this process, on Linux since the last reset."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found is not None:
        return int(found[1]) * 1024 / _GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB


def _reset_process_peak() -> None:
    """Reset the peak memory of this process, after malloc returned what earlier runs freed."""
    global _earlier_peak_gib
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5)
        _earlier_peak_gib = 0.0
    except OSError:
        _earlier_peak_gib = _process_peak_gib()


def _keep_freed_memory() -> None:
    """Let malloc keep the memory of a step for the next one.

    glibc returns freed blocks of more than 128 KiB to the system. Every activation is such a block.
    So each step would map and zero all its pages again, which takes a third of LeNet's step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        # Keep the activations of small networks. Larger blocks are still returned.
        mallopt(M_MMAP_THRESHOLD, 32 * 1024**2)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def images_per_step(config: TrainConfig) -> float:
    """Return the images of a full batch or, with train.accumulate, of a micro-batch."""
    return config.batch_size / config.accumulate


def device_config(config: Config) -> DeviceConfig:
    """Return config.device; with reference layers, replace `auto` by values they are fast with."""
    device = config.device
    if config.reference.layers and device.precision == "auto":
        device = replace(device, precision="fp32")
    if config.reference.layers and device.channels_last == "auto":
        device = replace(device, channels_last=False)
    if config.reference.module is not None:  # checked: not true
        device = replace(device, cuda_graphs=False)
    return device


def resolve_device(config: DeviceConfig, intensity: Callable[[], float] = lambda: 0.0) -> Device:
    """Return the device of the configuration, with every ``auto`` resolved for this machine.

    - ``cuda_graphs=auto`` is true on a CUDA GPU.
    - ``precision=auto`` is bf16 or tf32 on a CUDA GPU of the Ampere generation or later: bf16 if
      steps are captured, otherwise tf32, as casts launch as many kernels as bf16 saves arithmetic.
      It is bf16 on a CPU with bf16 multiplication if `intensity` returns at least
      MIN_BF16_INTENSITY multiply-adds per parameter and step. Otherwise it is fp32.
    - ``channels_last=auto`` is true on the CPU, and on a CUDA GPU in bf16 and fp16, whose kernels
      are written for that layout. On the CPU it also allows the batch last, where that is faster.

    Each of several processes has one GPU, and captures no graphs.

    Raises:
        ConfigError: the device is missing, or does not support a setting.
    """
    ours = processes()
    name = _find_device(config.name)
    cuda_graphs = config.cuda_graphs
    if isinstance(cuda_graphs, str):
        cuda_graphs = name == "cuda" and not ours.several
    if cuda_graphs and ours.several:
        raise ConfigError(
            "device.cuda_graphs=true is for one process: CUDA graphs do not wait for other "
            "processes. Use auto."
        )
    if cuda_graphs and name != "cuda":
        raise ConfigError(
            f"device.cuda_graphs=true needs device=cuda, not {name}: only a CUDA GPU has graphs."
        )
    precision = _resolve_precision(config.precision, name, cuda_graphs, intensity)
    channels_last = config.channels_last
    is_auto = isinstance(channels_last, str)
    batch_last = is_auto and name == "cpu" and precision in ("fp32", "bf16")
    if isinstance(channels_last, str):
        channels_last = name == "cpu" or (name == "cuda" and precision in ("bf16", "fp16"))
    index = f":{ours.local_rank}" if name == "cuda" and ours.several else ""
    torch_device = torch.device(f"{name}{index}")
    return Device(torch_device, precision, channels_last, config.compile, cuda_graphs, batch_last)


def _find_device(name: str) -> str:
    """Return the type of device for ``device.name``: cuda, mps or cpu."""
    ours = processes()
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available() and not ours.several
    available = [name for name, found in (("cuda", cuda), ("mps", mps), ("cpu", True)) if found]
    if name == "auto":
        name = available[0]
    if name not in available:
        present = ", ".join(sorted(available))
        raise ConfigError(
            f"device={name}: PyTorch {torch.__version__} finds no such device here. "
            f"Present: {present}."
        )
    gpus = torch.cuda.device_count()
    if name == "cuda" and ours.several and ours.local_size > gpus:
        fewer = join_words([*ours.program(gpus), *sys.argv[1:]])
        raise ConfigError(
            f"{ours.local_size} processes on this machine need a GPU each, and it has {gpus}. "
            f"Use device=cpu, or fewer processes: {fewer}"
        )
    return name


def _resolve_precision(
    precision: str, name: str, cuda_graphs: bool, intensity: Callable[[], float]
) -> str:
    """Return the precision for a type of device, such as bf16."""
    is_ampere = name == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
    if precision == "auto" and is_ampere:
        precision = "bf16" if cuda_graphs else "tf32"
    elif precision == "auto":
        is_faster = name == "cpu" and _multiplies_in_bf16() and intensity() >= MIN_BF16_INTENSITY
        precision = "bf16" if is_faster else "fp32"
    if precision == "tf32" and not is_ampere:
        raise ConfigError(
            "device.precision=tf32 needs a CUDA GPU of the Ampere generation or later. "
            "Use fp32 or bf16."
        )
    if precision == "fp64" and name == "mps":
        raise ConfigError(
            "device.precision=fp64: device=mps does not support fp64. Use device=cpu."
        )
    return precision


def _resolve_threads(threads: int | str) -> int:
    """Return the number of threads; ``auto`` is PyTorch's default, limited to the usable CPUs."""
    return min(_DEFAULT_THREADS, usable_cpus()) if isinstance(threads, str) else threads


def describe_threads(threads: int | str) -> str:
    """Return the number of threads in words, with the CPU quota if the quota limits ``auto``."""
    number, quota = _resolve_threads(threads), cpu_quota()
    text = format_count(number, "thread")
    if threads == "auto" and quota is not None and number == max(1, int(quota)) < _DEFAULT_THREADS:
        text += f" (CPU quota {quota:g})"
    return text


def setup_device(device: Device, config: DeviceConfig, seed: int) -> None:
    """Set threads, precision, determinism and seeds of the whole process.

    Every setting is set, also to PyTorch's default, so that no setting of an earlier run in this
    process remains.
    """
    torch.set_num_threads(_resolve_threads(config.threads))
    if device.torch_device.type == "cpu":
        _keep_freed_memory()
    tf32 = device.precision == "tf32"
    # If cuda.matmul.fp32_precision is set, torch.compile of PyTorch 2.9 and 2.10 cannot read it.
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    cudnn = torch.backends.cudnn
    cudnn.conv.fp32_precision = "tf32" if tf32 else "ieee"  # type: ignore[attr-defined]  # no stub
    # Also in runs that are not deterministic: cuBLAS reads it only once in a process.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # use_deterministic_algorithms sets the same flag, but first imports torch._inductor for 2 s.
    torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
    cudnn.benchmark = not config.deterministic
    torch.manual_seed(seed)
    if device.torch_device.type == "cuda":
        if device.torch_device.index is not None:
            torch.cuda.set_device(device.torch_device)
        torch.cuda.reset_peak_memory_stats(device.torch_device)
    else:
        _reset_process_peak()


@contextmanager
def cleaned_up() -> Iterator[None]:
    """Free compiled functions, captured graphs and cached GPU memory at the end of the block.

    Settings need no reset, as `setup_device` sets every one. On a CPU without a compiler, reference
    counting frees everything, so the garbage collection of 0.1 s is skipped.
    """
    try:
        yield
    finally:
        on_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        compiler = sys.modules.get("torch._dynamo")
        if compiler is not None:
            compiler.reset()
        if on_cuda or compiler is not None:
            gc.collect()  # graphs and compiled functions are in reference cycles
        if on_cuda:
            torch.cuda.empty_cache()
