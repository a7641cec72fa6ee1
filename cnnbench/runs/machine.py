"""CPUs and memory that the system allows this process, and the waiting of OpenMP threads."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = [
    "cpu_quota",
    "limit_spinning",
    "memory_limit",
    "openmp_variables",
    "spin_count",
    "usable_cpus",
]

log = logging.getLogger("cnnbench")

CGROUP_OF_PROCESS = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
CPUINFO = Path("/proc/cpuinfo")
# Few, as spinning threads keep cores from others, yet so many that an idle machine loses a few
# percent at most. GNU's default is 300,000. See benchmarks/NOTES.md, "Beside busy processes".
SPIN_COUNT = 20_000
SPIN_COUNT_AMD = 4_000
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

replaced_wait_policy: str | None = None  # the user's OMP_WAIT_POLICY, if it was invalid


def usable_cpus() -> int:
    """Return the number of CPUs this process may use at once, from 1. A quota of 2.5 gives 2."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def cpu_quota() -> float | None:
    """Return the CPUs that the control groups of this process allow, or None without a limit.

    All groups above a group limit it too, so the smallest quota counts. In a container whose group
    is mounted as the root, the folders in /proc are missing, and the quota is in the root. A file
    that cannot be read or parsed counts as no limit.
    """
    quotas: list[float] = []
    for group in _control_groups("cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):
            if (group / "cpu.max").exists():
                quota_us, period_us = (group / "cpu.max").read_text().split()
            else:
                quota_us = (group / "cpu.cfs_quota_us").read_text()
                period_us = (group / "cpu.cfs_period_us").read_text()
            if int(quota_us) > 0:  # -1 means no limit, and "max" raises ValueError
                quotas.append(int(quota_us) / int(period_us))
    return min(quotas, default=None)


def memory_limit() -> int | None:
    """Return the bytes that the control groups of this process allow, or None without a limit."""
    limits: list[int] = []
    for group in _control_groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # the file has "max", or is missing
                limits.append(int((group / name).read_text()))
    return min(limits, default=None)


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the control groups of this process and all groups above them, in versions 1 and 2."""
    with suppress(OSError, ValueError):
        for line in CGROUP_OF_PROCESS.read_text().splitlines():
            _, controllers, path = (*line.split(":", 2), "", "")[:3]
            if controller in controllers.split(","):
                mount = CGROUP_ROOT / controller
            elif not controllers:
                mount = CGROUP_ROOT
            else:
                continue
            group = mount / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(mount):
                    yield folder


def limit_spinning() -> None:
    """Set GOMP_SPINCOUNT, unless the user has set how OpenMP threads wait for each other.

    Threads that spin for long keep cores from the threads they wait for. Threads that sleep at once
    made an epoch on an idle machine 1.4 times as long. Call this before torch is imported, as its
    OpenMP reads the variable then. Only GNU OpenMP, which torch has on Linux, knows this variable.
    """
    global replaced_wait_policy
    if "torch" in sys.modules:
        log.debug("torch was imported before cnnbench: GOMP_SPINCOUNT stays unchanged.")
        return
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    if policy and policy.upper() not in ("ACTIVE", "PASSIVE"):
        replaced_wait_policy = os.environ.pop("OMP_WAIT_POLICY")
    if not openmp_variables():
        os.environ["GOMP_SPINCOUNT"] = str(spin_count())


def spin_count() -> int:
    """Return how often a thread of GNU OpenMP looks for work before it sleeps."""
    with suppress(OSError), CPUINFO.open() as file:
        if "AuthenticAMD" in file.read(100):  # the second line
            return SPIN_COUNT_AMD
    return SPIN_COUNT


def openmp_variables() -> dict[str, str]:
    """Return the environment variables that are set and control how OpenMP threads wait."""
    return {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
