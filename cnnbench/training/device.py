"""The device of a run: chosen, set up, described."""

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
from cnnbench.config import Config, DeviceConfig, join_words
from cnnbench.errors import ConfigError
from cnnbench.runs.machine import cpu_quota, memory_limit, usable_cpus
from cnnbench.runs.torchrun_env import processes

__all__ = [
    "Device",
    "cleaned_up",
    "describe_threads",
    "device_config",
    "resolve_device",
    "setup_device",
]

_DEFAULT_THREADS = torch.get_num_threads()  # by OMP_NUM_THREADS, or one per physical core
_GIB = 1024**3
_earlier_peak_gib = 0.0  # of the runs before in this process, where the system cannot forget it
BF16_INTENSITY = 5.0  # see benchmarks/NOTES.md
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


@dataclass(frozen=True)
class Device:
    """A torch device and how it works.

    `precision` of its arithmetic (fp64, fp32, tf32, bf16 or fp16), layout of its images, whether the network is
    compiled, whether steps are to be captured in CUDA graphs.
    """

    torch_device: torch.device
    precision: str
    channels_last: bool
    compile: bool = False
    cuda_graphs: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, images and logits."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)

    @property
    def backend(self) -> str:
        """What several processes talk to each other with."""
        return "nccl" if self.torch_device.type == "cuda" else "gloo"

    def describe(self) -> str:
        """The maker's name of the chip."""
        if self.torch_device.type == "cuda":
            return torch.cuda.get_device_name(self.torch_device)
        return _cpu_info("model name") or platform.processor() or platform.machine()

    def synchronize(self) -> None:
        """Wait until the device has done all it was asked to."""
        if self.torch_device.type != "cpu":
            torch.accelerator.synchronize(self.torch_device)

    def whole_memory(self) -> int:
        """Bytes, used or not: of the GPU; else of this machine, or of the container that this runs in."""
        if self.torch_device.type == "cuda":
            return torch.cuda.get_device_properties(self.torch_device).total_memory
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return min(machine, memory_limit() or machine)

    def peak_memory_gib(self) -> float | None:
        """Return the most memory held since `setup_device`: by tensors on a GPU, else by the process.

        None where an earlier run in the process held more and the system cannot forget that.
        """
        if self.torch_device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.torch_device) / _GIB
        peak_gib = _process_peak_gib()
        return peak_gib if peak_gib > _earlier_peak_gib else None

    def memory_in_words(self) -> str:
        """How much memory there is, is free, and is held by tensors."""
        if self.torch_device.type != "cuda":
            return f"This process has held up to {_process_peak_gib():.2f} GiB."
        free, total = (each / _GIB for each in torch.cuda.mem_get_info(self.torch_device))
        held = torch.cuda.memory_allocated(self.torch_device) / _GIB
        peak = torch.cuda.max_memory_allocated(self.torch_device) / _GIB
        tensors = f"tensors hold {held:.2f}, at most {peak:.2f}"
        return f"Of {total:.2f} GiB, {free:.2f} are free; {tensors}."


def _multiplies_in_bf16() -> bool:
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(_cpu_info("flags").split())


def _cpu_info(key: str) -> str:
    """What Linux tells of the first core under `key`; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _process_peak_gib() -> float:
    """Return the most memory that this process has held, on Linux since that was last forgotten."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found is not None:
        return int(found[1]) * 1024 / _GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB


def _forget_process_peak() -> None:
    """Count the memory of this process anew, without what malloc keeps of earlier runs."""
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

    glibc gives blocks of more than 128 KiB back to the system when they are freed. Every activation is
    one, so each step would have all its pages mapped and zeroed again: a third of LeNet's step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(
            M_MMAP_THRESHOLD, 32 * 1024**2
        )  # the activations of small networks; larger blocks still go back
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def device_config(config: Config) -> DeviceConfig:
    """Return config.device, with what suits the reference layers where `auto` is for PyTorch's."""
    device = config.device
    if config.reference.layers and device.precision == "auto":
        device = replace(device, precision="fp32")
    if config.reference.layers and device.channels_last == "auto":
        device = replace(device, channels_last=False)
    return device


def resolve_device(config: DeviceConfig, intensity: Callable[[], float] = lambda: 0.0) -> Device:
    """Return the device and how it works, as the configuration means it on this machine.

    ``cuda_graphs=auto`` is true on a CUDA GPU. ``precision=auto`` is bf16 on one of the Ampere generation or later
    whose steps are captured, tf32 on one whose steps are not: casting costs as many launches as it saves
    arithmetic. On a CPU that multiplies in bf16 it is bf16 for a network of at least BF16_INTENSITY
    multiply-adds per parameter and image (`intensity`). Elsewhere it is fp32. ``channels_last=auto`` is true on the
    CPU, and on a CUDA GPU in bf16 and fp16, whose kernels are written for that layout.

    Of several processes each has a GPU of its own, and captures nothing.

    Raises:
        ConfigError: the device is not there or lacks what was asked of it.
    """
    ours = processes()
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available() and not ours.several
    there = {"cpu": True, "cuda": cuda, "mps": mps}
    name = config.name
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    if not there[name]:
        present = ", ".join(key for key, value in there.items() if value)
        raise ConfigError(
            f"device={name}: PyTorch {torch.__version__} finds no such device here. Present: {present}."
        )
    gpus = torch.cuda.device_count()
    if name == "cuda" and ours.several and ours.local_size > gpus:
        fewer = join_words([*ours.program(gpus), *sys.argv[1:]])
        raise ConfigError(
            f"{ours.local_size} processes on this machine need a GPU each, and it has {gpus}. "
            f"Use device=cpu, or fewer processes: {fewer}"
        )
    if config.cuda_graphs is True and ours.several:
        raise ConfigError(
            "device.cuda_graphs=true is for one process: CUDA graphs do not wait for other processes. Use auto."
        )
    graph = (
        name == "cuda" and not ours.several
        if isinstance(config.cuda_graphs, str)
        else config.cuda_graphs
    )
    if graph and name != "cuda":
        raise ConfigError(
            f"device.cuda_graphs=true needs device=cuda, not {name}: only a CUDA GPU has graphs."
        )
    ampere = name == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
    precision = config.precision
    if precision == "auto" and ampere:
        precision = "bf16" if graph else "tf32"
    elif precision == "auto":
        quick = name == "cpu" and _multiplies_in_bf16() and intensity() >= BF16_INTENSITY
        precision = "bf16" if quick else "fp32"
    if precision == "tf32" and not ampere:
        raise ConfigError(
            "device.precision=tf32 needs a CUDA GPU of the Ampere generation or later. Use fp32 or bf16."
        )
    if precision == "fp64" and name == "mps":
        raise ConfigError(
            "device.precision=fp64 is not for device=mps, which has no such numbers. Use device=cpu."
        )
    channels_last = config.channels_last
    if isinstance(channels_last, str):
        channels_last = name == "cpu" or (name == "cuda" and precision in ("bf16", "fp16"))
    of_rank = f":{ours.local_rank}" if name == "cuda" and ours.several else ""
    return Device(torch.device(f"{name}{of_rank}"), precision, channels_last, config.compile, graph)


def _resolve_threads(threads: int | str) -> int:
    """Return a number as it is, and ``auto`` as torch's own number, but no more than the CPUs this process may use."""
    return min(_DEFAULT_THREADS, usable_cpus()) if isinstance(threads, str) else threads


def describe_threads(threads: int | str) -> str:
    """Return the number of threads in words, with the CPU quota if ``auto`` was decided by it."""
    number, quota = _resolve_threads(threads), cpu_quota()
    text = format_count(number, "thread")
    if threads == "auto" and quota is not None and number == max(1, int(quota)) < _DEFAULT_THREADS:
        text += f" (CPU quota {quota:g})"
    return text


def setup_device(device: Device, config: DeviceConfig, seed: int) -> None:
    """Set the whole process up for the device: threads, precision, determinism, seeds.

    Every setting is set, not only those that differ from PyTorch's, so that nothing is left over
    from an earlier run in this process.
    """
    torch.set_num_threads(_resolve_threads(config.threads))
    if device.torch_device.type == "cpu":
        _keep_freed_memory()
    tf32 = device.precision == "tf32"
    # not cuda.matmul.fp32_precision, after which torch.compile of PyTorch 2.9 and 2.10 cannot read the setting
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.conv.fp32_precision = "tf32" if tf32 else "ieee"  # type: ignore[attr-defined]  # missing in torch's stubs
    # in each run: cuBLAS reads it once in a process, and a later run may be deterministic
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # use_deterministic_algorithms sets the same flag, but takes 2 s to import torch._inductor for it
    torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
    torch.backends.cudnn.benchmark = not config.deterministic
    torch.manual_seed(seed)
    if device.torch_device.type == "cuda":
        if device.torch_device.index is not None:
            torch.cuda.set_device(device.torch_device)
        torch.cuda.reset_peak_memory_stats(device.torch_device)
    else:
        _forget_process_peak()


@contextmanager
def cleaned_up() -> Iterator[None]:
    """At the end of the block, let go of what was compiled and captured, and of memory the GPU keeps for later.

    What the block does to settings need not be undone: `setup_device` sets them all. On a CPU without a compiler
    nothing is left that reference counting does not free; to look for more would take 0.1 s.
    """
    try:
        yield
    finally:
        on_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # so in torch
        compiler = sys.modules.get("torch._dynamo")
        if compiler is not None:
            compiler.reset()
        if on_cuda or compiler is not None:
            gc.collect()  # graphs and compiled functions are in cycles
        if on_cuda:
            torch.cuda.empty_cache()
