"""What this machine gives the process: CPUs and memory, by affinity and control groups; OpenMP."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["cpu_quota", "limit_spinning", "memory_limit", "openmp_variables", "usable_cpus"]

log = logging.getLogger("cnnbench")

CGROUP_OF_PROCESS = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
SPIN_COUNT = 20_000  # GNU's default is 300,000; see benchmarks/NOTES.md, "Beside busy processes"
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

replaced_wait_policy: str | None = None  # the user's OMP_WAIT_POLICY, if it is not a known one


def usable_cpus() -> int:
    """Return how many CPUs this process may use at once: at least 1, and a quota of 2.5 is 2."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def cpu_quota() -> float | None:
    """Return the CPUs that the control groups of this process allow, or None without a limit.

    A group is limited by all groups above it, so the smallest quota counts. In a container whose
    own group is mounted as the root, the folders that /proc names are missing and the root is read.
    Files that cannot be read or parsed are no limit.
    """
    quotas: list[float] = []
    for group in _control_groups("cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):
            if (group / "cpu.max").exists():
                quota_us, period_us = (group / "cpu.max").read_text().split()
            else:
                quota_us = (group / "cpu.cfs_quota_us").read_text()
                period_us = (group / "cpu.cfs_period_us").read_text()
            if int(quota_us) > 0:  # -1, or a word, without a limit
                quotas.append(int(quota_us) / int(period_us))
    return min(quotas, default=None)


def memory_limit() -> int | None:
    """Return the bytes that the control groups of this process allow, or None without a limit."""
    limits: list[int] = []
    for group in _control_groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # "max", or no such file
                limits.append(int((group / name).read_text()))
    return min(limits, default=None)


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the groups that this process is in, and all above them (versions 1 and 2)."""
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
            yield from (
                folder for folder in (group, *group.parents) if folder.is_relative_to(mount)
            )


def limit_spinning() -> None:
    """Set GOMP_SPINCOUNT, unless the user has decided how OpenMP's threads wait for each other.

    Threads that spin for long keep busy cores from the very threads they wait for. Threads that
    sleep at once made an epoch on an idle machine 1.4 times as long. Call this before torch is
    imported, when the variable is read. It is that of GNU's OpenMP, which torch has on Linux;
    another OpenMP stays as it is.
    """
    global replaced_wait_policy
    if "torch" in sys.modules:
        log.debug("torch was imported before cnnbench: how long its threads spin stays as it was.")
        return
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    if policy and policy.upper() not in ("ACTIVE", "PASSIVE"):
        replaced_wait_policy = os.environ.pop("OMP_WAIT_POLICY")
    if not openmp_variables():
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def openmp_variables() -> dict[str, str]:
    """Return the variables that are set and decide how OpenMP's threads wait."""
    return {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
