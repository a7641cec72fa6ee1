"""What `cnnbench doctor` looks at: each probe returns facts, and notes what is unusual and what to do about it."""

import fcntl
import getpass
import locale
import math
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
from cnnbench.config import DeviceConfig
from cnnbench.data.user_folders import expand_user, is_writable, user_cache
from cnnbench.reports.text import in_bytes, printable
from cnnbench.runs.cpu_limits import cpu_quota, memory_limit, usable_cpus

__all__ = ["PROBES", "Diagnosis"]

Facts = dict[str, Any]

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "matplotlib")
EXTRAS = {
    "joblib": ("hydra-joblib-launcher",),
    "slurm": ("hydra-submitit-launcher",),
    "optuna": ("optuna",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow",),
    "onnx": ("onnx", "onnxscript", "onnxruntime", "safetensors"),
}
INSTRUCTIONS = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bf16", "amx_bf16": "AMX bf16",
    "asimd": "NEON", "sve": "SVE", "bf16": "bf16",
}  # fmt: skip
VARIABLES = re.compile("(OMP|MKL|OPENBLAS|CNNBENCH|KMP)_|CUDA_VISIBLE_DEVICES|PYTHONIOENCODING|PYTHONUTF8|LC_ALL|LANG$")

MIN_MEMORY = 512 * 1024**2  # PyTorch and the smallest network take more
LITTLE_MEMORY = 2 * 1024**3
LITTLE_DISK = 1024**3
SLOW_FSYNC_S = 0.5


@dataclass
class Diagnosis:
    """What was found: facts by section, what is unusual with what to do, and why a run cannot work here."""

    facts: dict[str, Facts] = field(default_factory=dict)
    unusual: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)


def examine_versions(_: Diagnosis) -> Facts:
    """Return the versions of what runs depend on."""
    found = {name: _version(name) or "missing" for name in PACKAGES}
    return {"cnnbench": cnnbench.__version__, "python": platform.python_version(), **found, "on": platform.platform()}


def examine_processor(diagnosis: Diagnosis) -> Facts:
    """Return the chip, what it computes fast with, and the CPUs that may be used."""
    cpus, usable, quota, load = os.cpu_count() or 1, usable_cpus(), cpu_quota(), os.getloadavg()[0]
    if usable < cpus:
        limit = "their quota" if quota is not None and quota < cpus else "the affinity (taskset)"
        diagnosis.unusual.append(f"Only {usable} of {cpus} CPUs may be used. For more, raise {limit}.")
    if load > cpus:
        advice = "Wait, or use device.threads=1: times measured now are too long."
        diagnosis.unusual.append(f"The machine is busy: load {load:.1f} on {cpus} CPUs. {advice}")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) < usable:
        advice = "Unset it, or set device.threads."
        diagnosis.unusual.append(f"OMP_NUM_THREADS={threads} keeps training to fewer threads than CPUs. {advice}")
    flags = (_search("/proc/cpuinfo", r"^(?:flags|Features)\s*:(.*)$") or "").split()
    if platform.machine() == "x86_64" and flags and "avx2" not in flags:
        advice = "In a virtual machine, choose the host's CPU type."
        diagnosis.unusual.append(f"The chip has no AVX2: training is several times slower. {advice}")
    chip = _search("/proc/cpuinfo", r"^model name\s*:\s*(.*)$")
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        chip = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    return {
        "chip": chip or platform.processor() or platform.machine(),
        "instructions": [name for flag, name in INSTRUCTIONS.items() if flag in flags],
        "cpus": cpus,
        "usable_cpus": usable,
        "cpu_quota": quota,
        "load": round(load, 1),
    }


def examine_memory(diagnosis: Diagnosis) -> Facts:
    """Return the memory there is, what is free of it, and the limits of this process."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    listed = _search("/proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
    available = int(listed) * 1024 if listed else None
    limit, address_space = memory_limit(), resource.getrlimit(resource.RLIMIT_AS)[0]
    whole = min(total, limit or total)
    if whole < MIN_MEMORY:
        need = f"Training takes at least {in_bytes(MIN_MEMORY)}: use a larger machine, or raise the container's limit."
        diagnosis.obstacles.append(f"There are {in_bytes(whole)} of memory. {need}")
    elif min(whole, available or whole) < LITTLE_MEMORY:
        free = in_bytes(min(whole, available or whole))
        diagnosis.unusual.append(f"Only {free} of memory can be had. End other programs, or lower train.batch_size.")
    if address_space != resource.RLIM_INFINITY:
        advice = "PyTorch reserves more than it uses: ulimit -v unlimited."
        diagnosis.unusual.append(f"ulimit -v allows {in_bytes(address_space)} of addresses. {advice}")
    facts = {"total_bytes": total, "available_bytes": available, "limit_bytes": limit if whole == limit else None}
    return {**facts, "address_limit_bytes": None if address_space == resource.RLIM_INFINITY else address_space}


def examine_pytorch(diagnosis: Diagnosis) -> Facts:
    """Return the GPUs that PyTorch can use, or why it uses none, and what `auto` means on the CPU."""
    try:
        _import_torch()
    except Exception as error:
        reason = " ".join(str(error).split())
        diagnosis.obstacles.append(f"PyTorch cannot be imported: {reason}. Raise ulimit -v, or install PyTorch anew.")
        raise
    import torch

    from cnnbench.training.device import choose, describe_threads

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        has_cuda = torch.cuda.is_available()
    driver = _search("/proc/driver/nvidia/version", r"\s(\d+\.[\d.]+)\s")
    if driver and not has_cuda:
        reason = str(caught[0].message).partition("\n")[0] if caught else "PyTorch finds no CUDA."
        if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
            reason = "CUDA_VISIBLE_DEVICES hides all GPUs."
        advice = "The driver and PyTorch must go together: see pytorch.org."
        diagnosis.unusual.append(f"There is an NVIDIA driver, but no GPU is used. {printable(reason)} {advice}")
    device = choose(DeviceConfig("cpu", "auto", "auto", "auto", False, "auto", False), lambda: math.inf)
    return {
        "built_for": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
        "cuda": [f"{each.name}, {in_bytes(each.total_memory)}" for each in devices],
        "cuda_driver": driver,
        "mps": torch.backends.mps.is_available(),
        "cpu_threads": describe_threads("auto"),
        "cpu_precision": "bf16 for large networks, else fp32" if device.precision == "bf16" else device.precision,
    }


def _import_torch() -> None:
    """Import torch. Where the import may end the process, let another process try it first."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        command = [sys.executable, "-c", "import torch, numpy"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise ImportError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    import torch  # noqa: F401


def examine_outputs(diagnosis: Diagnosis) -> Facts:
    """Return whether runs can be written below the working folder, and how well."""
    facts = _examine_folder(Path("outputs"), "hydra.run.dir=DIR", diagnosis)
    if facts["writable"] is not True:
        advice = "Change to another folder, or name one with hydra.run.dir=DIR."
        diagnosis.obstacles.append(f"{facts['path']} cannot be written: {facts['writable']}. {advice}")
    return facts


def examine_cache(diagnosis: Diagnosis) -> Facts:
    """Return whether data sets that are fetched can be kept."""
    facts = _examine_folder(user_cache(), "data.root=DIR", diagnosis)
    if facts["writable"] is not True:
        advice = "Set XDG_CACHE_HOME, or name a folder with data.root=DIR."
        diagnosis.unusual.append(f"Data sets cannot be kept in {facts['path']}: {facts['writable']}. {advice}")
    return facts


def _examine_folder(folder: Path, setting: str, diagnosis: Diagnosis) -> Facts:
    """Write a small file where `folder` is or would be made, lock it and have it written to disk."""
    place = folder.absolute()
    while not os.access(place, os.F_OK) and place != place.parent:
        place = place.parent
    facts: Facts = {"path": str(folder.absolute()), "free_bytes": shutil.disk_usage(place).free}
    facts |= {"filesystem": _filesystem(place), "writable": True}
    try:
        with tempfile.NamedTemporaryFile(prefix=".cnnbench-doctor-", dir=place) as file:
            file.write(bytes(2**16))
            file.flush()
            facts["locks"] = _attempt(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
            began_at = time.perf_counter()
            facts["fsync"] = _attempt(lambda: os.fsync(file.fileno()))
            facts["fsync_takes_s"] = round(time.perf_counter() - began_at, 4)
    except OSError as error:
        facts["writable"] = error.strerror or str(error)
        return facts
    for name, loss in (("locks", "two runs could use one directory"), ("fsync", "a power failure may lose files")):
        if facts[name] != "work":
            advice = f"Use a local disk: {setting}."
            diagnosis.unusual.append(f"{name} do not work in {place} ({facts[name]}): {loss}. {advice}")
    if facts["fsync_takes_s"] > SLOW_FSYNC_S:
        advice = f"Use another with {setting}."
        diagnosis.unusual.append(f"The disk of {place} is slow: fsync took {facts['fsync_takes_s']:.1f} s. {advice}")
    if facts["free_bytes"] < LITTLE_DISK:
        diagnosis.unusual.append(f"{in_bytes(facts['free_bytes'])} are free in {place}. Free some, or use {setting}.")
    return facts


def examine_data(diagnosis: Diagnosis) -> Facts:
    """Return where the data sets are."""
    if sys.modules.get("torch") is None:
        raise ImportError("it needs what PyTorch needs")
    from cnnbench.data import storage
    from cnnbench.data.catalog import CATALOG

    for part in filter(None, os.environ.get("CNNBENCH_DATA", "").split(os.pathsep)):
        if not expand_user(part).is_dir():
            diagnosis.unusual.append(f"CNNBENCH_DATA names {part}, which is no folder. Correct or unset it.")
    places = {name: storage.locate(dataset) for name, dataset in CATALOG.items()}
    return {name: str(place) if place else "not here, fetched when needed" for name, place in places.items()}


def examine_extras(_: Diagnosis) -> Facts:
    """Return the optional packages by the extra that installs them."""
    versions = {name: _version(name) for names in EXTRAS.values() for name in names}
    return {extra: [f"{name} {versions[name]}" for name in names if versions[name]] for extra, names in EXTRAS.items()}


def examine_user(diagnosis: Diagnosis) -> Facts:
    """Return who runs this, and what signs the terminal takes."""
    try:
        home: Path | None = Path.home()
    except RuntimeError:
        home = None
    if not os.environ.get("XDG_CACHE_HOME") and (home is None or not is_writable(home)):
        what = "There is no home folder" if home is None else f"The home folder {home} cannot be written"
        advice = "Set HOME or XDG_CACHE_HOME to a folder of yours."
        diagnosis.unusual.append(f"{what}: caches are in the temporary folder. {advice}")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if encoding.lower().replace("-", "") != "utf8":
        advice = "Set LC_ALL=C.UTF-8 or PYTHONIOENCODING=utf-8."
        diagnosis.unusual.append(f"The terminal's encoding is {encoding}: some signs are replaced. {advice}")
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
    """Return the variables that change what a run does."""
    return {name: printable(value) for name, value in sorted(os.environ.items()) if VARIABLES.match(name)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _search(path: str, pattern: str) -> str | None:
    """Return what the group of `pattern` matches in a file, if there is such a file."""
    text = Path(path).read_text() if Path(path).exists() else ""
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def _attempt(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return error.strerror or str(error)
    return "work"


def _filesystem(place: Path) -> str | None:
    """Return the type of the file system, where /proc lists what is mounted."""
    mounts = Path("/proc/mounts")
    rows = [line.split() for line in mounts.read_text().splitlines()] if mounts.exists() else []
    around = [(len(row[1]), row[2]) for row in rows if place.is_relative_to(row[1])]
    return max(around)[1] if around else None


# By section, in the order they are shown.
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
