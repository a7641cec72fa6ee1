"""Probes of this machine. Each returns facts and notes problems for training."""

import fcntl
import getpass
import locale
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import cnnbench
from cnnbench.analysis.format import format_bytes, format_count
from cnnbench.data.user_folders import (
    expand_user,
    find_existing_parent,
    is_writable,
    user_cache,
)
from cnnbench.runs.machine import cpu_quota, memory_limit, usable_cpus

__all__ = ["PROBES", "Diagnosis", "Facts"]

Facts = dict[str, Any]

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "matplotlib")
EXTRAS = {
    "joblib": ("hydra-joblib-launcher",),
    "slurm": ("hydra-submitit-launcher",),
    "optuna": ("optuna",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "onnx": ("onnx", "onnxscript", "onnxruntime", "safetensors"),
    "reproduce": ("scipy",),
}
INSTRUCTIONS = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bf16", "amx_bf16": "AMX bf16",
    "asimd": "NEON", "sve": "SVE", "bf16": "bf16",
}  # fmt: skip
VARIABLES = re.compile("(CNNBENCH|KMP|MKL|OMP|OPENBLAS)_|CUDA_VISIBLE|LANG$|LC_ALL|PYTHON(IO|UTF8)")

MIN_MEMORY = 512 * 1024**2  # PyTorch and the smallest network take more
MIN_FREE_MEMORY = 2 * 1024**3
MIN_FREE_DISK = 1024**3
SLOW_FSYNC_S = 0.5


@dataclass
class Diagnosis:
    """Facts by section, unusual facts and obstacles to a run, both with advice."""

    facts: dict[str, Facts] = field(default_factory=dict)
    unusual: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)

    def note(self, problem: str, advice: str, is_obstacle: bool = False) -> None:
        """Add an unusual fact, or an obstacle, with advice."""
        notes = self.obstacles if is_obstacle else self.unusual
        notes.append(f"{problem} {advice}")


def examine_versions(_: Diagnosis) -> Facts:
    """Return the versions of cnnbench, Python and the packages that runs depend on."""
    return {
        "cnnbench": cnnbench.__version__,
        "python": platform.python_version(),
        **{name: _find_version(name) or "missing" for name in PACKAGES},
        "on": platform.platform(),
    }


def examine_processor(diagnosis: Diagnosis) -> Facts:
    """Return the chip, its vector instructions, and the usable CPUs."""
    cpus, usable, quota, load = os.cpu_count() or 1, usable_cpus(), cpu_quota(), os.getloadavg()[0]
    if usable < cpus:
        limit = "their quota" if quota is not None and quota < cpus else "the affinity (taskset)"
        diagnosis.note(f"Only {usable} of {cpus} CPUs may be used.", f"For more, raise {limit}.")
    if load > cpus:
        advice = "Wait, or use device.threads=1: times measured now are too long."
        busy = f"The machine is busy: load {load:.1f} on {format_count(cpus, 'CPU')}."
        diagnosis.note(busy, advice)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) < usable:
        problem = f"OMP_NUM_THREADS={threads} keeps training to fewer threads than CPUs."
        diagnosis.note(problem, "Unset it, or set device.threads.")
    flags = (_search("/proc/cpuinfo", r"^(?:flags|Features)\s*:(.*)$") or "").split()
    if platform.machine() == "x86_64" and flags and "avx2" not in flags:
        problem = "The chip has no AVX2: training is several times slower."
        diagnosis.note(problem, "In a virtual machine, choose the host's CPU type.")
    chip = _search("/proc/cpuinfo", r"^model name\s*:\s*(.*)$")
    if sys.platform == "darwin":
        chip = _run("sysctl", "-n", "machdep.cpu.brand_string").stdout.strip()
    return {
        "chip": chip or platform.processor() or platform.machine(),
        "instructions": [name for flag, name in INSTRUCTIONS.items() if flag in flags],
        "cpus": cpus,
        "usable_cpus": usable,
        "cpu_quota": quota,
        "load": round(load, 1),
    }


def examine_memory(diagnosis: Diagnosis) -> Facts:
    """Return the total and the available memory, and the limits of this process."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    listed = _search("/proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
    available = int(listed) * 1024 if listed else None
    limit, addresses = memory_limit(), resource.getrlimit(resource.RLIMIT_AS)[0]
    whole = min(total, limit or total)
    free = min(whole, available or whole)
    if whole < MIN_MEMORY:
        advice = f"Training takes at least {format_bytes(MIN_MEMORY)}: raise the container's limit."
        diagnosis.note(f"There are {format_bytes(whole)} of memory.", advice, is_obstacle=True)
    elif free < MIN_FREE_MEMORY:
        advice = "End other programs, or lower train.batch_size."
        diagnosis.note(f"Only {format_bytes(free)} of memory is available.", advice)
    if addresses != resource.RLIM_INFINITY:
        advice = "PyTorch reserves more than it uses: ulimit -v unlimited"
        diagnosis.note(f"ulimit -v allows {format_bytes(addresses)} of addresses.", advice)
    return {
        "total_bytes": total,
        "available_bytes": available,
        "limit_bytes": limit if whole == limit else None,
        "address_limit_bytes": None if addresses == resource.RLIM_INFINITY else addresses,
    }


def examine_pytorch(diagnosis: Diagnosis) -> Facts:
    """Return the platform that PyTorch was built for, and the GPUs that it uses."""
    try:
        _import_torch()
    except Exception as error:
        problem = f"PyTorch cannot be imported: {' '.join(str(error).split())}."
        diagnosis.note(problem, "Raise ulimit -v, or reinstall PyTorch.", is_obstacle=True)
        raise
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        has_cuda, count = torch.cuda.is_available(), torch.cuda.device_count()
        devices = [torch.cuda.get_device_properties(number) for number in range(count)]
    driver = _search("/proc/driver/nvidia/version", r"\s(\d+\.[\d.]+)\s")
    if driver and not has_cuda:
        reason = str(caught[0].message).partition("\n")[0] if caught else "PyTorch finds no CUDA."
        if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
            reason = "CUDA_VISIBLE_DEVICES hides all GPUs."
        problem = f"There is an NVIDIA driver, but no GPU is used. {reason}"
        diagnosis.note(problem, "Install a PyTorch that matches the driver: see pytorch.org.")
    return {
        "built_for": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
        "cuda": [f"{device.name}, {format_bytes(device.total_memory)}" for device in devices],
        "cuda_driver": driver,
        "mps": torch.backends.mps.is_available(),
    }


def _import_torch() -> None:
    """Check that torch can be imported.

    With a limited address space the import may kill the process, so another process tries it first.

    Raises:
        ImportError: the import fails in this process or in the other.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        finished = _run(sys.executable, "-c", "import torch, numpy")
        if finished.returncode:
            message = finished.stderr.strip() or f"exit code {finished.returncode}"
            raise ImportError(message.splitlines()[-1])
    import torch  # noqa: F401  # its import is the check


def examine_outputs(diagnosis: Diagnosis) -> Facts:
    """Return whether runs can be written below the working folder, and how fast."""
    facts = _examine_folder(Path("outputs"), "hydra.run.dir=DIR", diagnosis)
    if facts["writable"] is not True:
        problem = f"{facts['path']} cannot be written: {facts['writable']}."
        advice = "Change to another folder, or name one with hydra.run.dir=DIR."
        diagnosis.note(problem, advice, is_obstacle=True)
    return facts


def examine_cache(diagnosis: Diagnosis) -> Facts:
    """Return whether downloaded datasets can be stored, and how fast."""
    facts = _examine_folder(user_cache(), "data.root=DIR", diagnosis)
    if facts["writable"] is not True:
        problem = f"Datasets cannot be stored in {facts['path']}: {facts['writable']}."
        diagnosis.note(problem, "Set XDG_CACHE_HOME, or name a folder with data.root=DIR.")
    return facts


def _examine_folder(folder: Path, setting: str, diagnosis: Diagnosis) -> Facts:
    """Return the facts of a folder, by writing a small file in it or in its nearest parent.

    `setting` is the override that chooses another folder.
    """
    place = find_existing_parent(folder.absolute())
    if place.is_symlink() and not place.exists():
        return {"path": str(folder.absolute()), "writable": "it is a broken link"}
    free = shutil.disk_usage(place).free
    facts = {
        "path": str(folder.absolute()),
        "free_bytes": free,
        "filesystem": _find_filesystem(place),
    }
    try:
        with tempfile.NamedTemporaryFile(prefix=".cnnbench-doctor-", dir=place) as file:
            file.write(bytes(2**16))
            file.flush()
            locks = _attempt(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
            began_at = time.perf_counter()
            fsync = _attempt(lambda: os.fsync(file.fileno()))
            fsync_s = round(time.perf_counter() - began_at, 4)
    except OSError as error:
        return {**facts, "writable": error.strerror or str(error)}
    advice = f"Use another disk: {setting}."
    if locks != "work":
        problem = f"Files in {place} cannot be locked ({locks}): two runs could use one directory."
        diagnosis.note(problem, advice)
    if fsync != "work":
        problem = f"Files in {place} cannot be synced ({fsync}): a power failure may lose them."
        diagnosis.note(problem, advice)
    if fsync_s > SLOW_FSYNC_S:
        diagnosis.note(f"The disk of {place} is slow: fsync took {fsync_s:.1f} s.", advice)
    if free < MIN_FREE_DISK:
        diagnosis.note(f"Only {format_bytes(free)} are free in {place}.", f"Free some. {advice}")
    return {**facts, "writable": True, "locks": locks, "fsync": fsync, "fsync_takes_s": fsync_s}


def examine_data(diagnosis: Diagnosis) -> Facts:
    """Return the folders of the datasets."""
    if sys.modules.get("torch") is None:
        raise ImportError("PyTorch cannot be imported")
    from cnnbench.data.catalog import CATALOG
    from cnnbench.data.public_files import find_files

    for part in filter(None, os.environ.get("CNNBENCH_DATA", "").split(os.pathsep)):
        if not expand_user(part).is_dir():
            diagnosis.note(
                f"CNNBENCH_DATA names {part}, which is not a folder.", "Correct the path."
            )
    facts: Facts = {}
    for name, dataset in CATALOG.items():
        found = find_files(dataset)
        facts[name] = "not here, downloaded when needed" if found.missing else found.folders
    return facts


def examine_extras(_: Diagnosis) -> Facts:
    """Return the optional packages by the extra that installs them."""
    found: Facts = {}
    for extra, names in EXTRAS.items():
        found[extra] = [f"{name} {_find_version(name)}" for name in names if _find_version(name)]
    return found


def examine_user(diagnosis: Diagnosis) -> Facts:
    """Return the user, the home folder, and the encoding of the terminal."""
    try:
        home: Path | None = Path.home()
    except RuntimeError:
        home = None
    if not os.environ.get("XDG_CACHE_HOME") and (home is None or not is_writable(home)):
        state = "There is no home folder" if home is None else f"{home} cannot be written"
        problem = f"{state}: caches are in the temporary folder."
        diagnosis.note(problem, "Set HOME or XDG_CACHE_HOME to a folder that you can write.")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if encoding.lower().replace("-", "") != "utf8":
        problem = f"The terminal's encoding is {encoding}: some characters are replaced."
        diagnosis.note(problem, "Set LC_ALL=C.UTF-8 or PYTHONIOENCODING=utf-8.")
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"none (uid {os.getuid()})"
    return {
        "name": name,
        "home": home and str(home),
        "locale": locale.setlocale(locale.LC_CTYPE),
        "encoding": encoding,
    }


def examine_environment(_: Diagnosis) -> Facts:
    """Return the environment variables that affect a run."""
    names = sorted(name for name in os.environ if VARIABLES.match(name))
    return {name: os.environ[name] for name in names}


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _search(path: str, pattern: str) -> str | None:
    """Return the first group of `pattern` in a file, or None if it or the file is missing."""
    text = Path(path).read_text(errors="replace") if Path(path).exists() else ""
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def _attempt(call: Callable[[], object]) -> str:
    """Return "work", or the error of the system call."""
    try:
        call()
    except OSError as error:
        return error.strerror or str(error)
    return "work"


def _find_filesystem(place: Path) -> str | None:
    """Return the type of the file system, or None if df does not print it."""
    words = _run("df", "--output=fstype", str(place)).stdout.split()
    return words[-1] if words else None


# The probe of each section, in the order of the report.
PROBES: dict[str, Callable[[Diagnosis], Facts]] = {
    "versions": examine_versions,
    "processor": examine_processor,
    "memory": examine_memory,
    "pytorch": examine_pytorch,
    "outputs": examine_outputs,
    "cache": examine_cache,
    "data": examine_data,
    "extras": examine_extras,
    "user": examine_user,
    "environment": examine_environment,
}
