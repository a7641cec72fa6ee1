"""The CPUs and the memory that this process may use, by affinity and by control groups on Linux."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["cpu_quota", "memory_limit", "usable_cpus"]

CGROUP_OF_PROCESS = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Return how many CPUs this process may use at once: at least 1, and a quota of 2.5 is 2."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def cpu_quota() -> float | None:
    """Return the CPUs that the control groups of this process allow, or None without a limit.

    A group is limited by all groups above it, so the smallest quota counts. In a container whose own group is mounted
    as the root, the folders that /proc names are missing and the root is read. Files that cannot be read or parsed
    are no limit.
    """
    quotas = (_quota_of(group) for group in _control_groups("cpu"))
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit() -> int | None:
    """Return the bytes that the control groups of this process allow, or None without a limit."""
    limits: list[int] = []
    for group in _control_groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # "max", or no such file
                limits.append(int((group / name).read_text()))
    return min(limits, default=None)


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, and of all groups above them (versions 1 and 2)."""
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
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def _quota_of(group: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        if (group / "cpu.max").exists():
            quota_us, period_us = (group / "cpu.max").read_text().split()
        else:
            quota_us = (group / "cpu.cfs_quota_us").read_text()
            period_us = (group / "cpu.cfs_period_us").read_text()
        if int(quota_us) > 0:  # -1, or a word, without a limit
            return int(quota_us) / int(period_us)
    return None
