"""The software and hardware of a run, recorded so that its figures can be judged and repeated."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import cnnbench
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.machine import cpu_quota, openmp_variables, usable_cpus
from cnnbench.runs.reading import read_json_or_empty

__all__ = ["describe", "record_resume"]

_PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf")
REPRODUCIBILITY_KEYS = (  # entries on which the exact results depend
    *("cnnbench", "commit", "torch", "numpy", "device", "chip", "threads"),
    *("precision", "channels_last", "engine", "compile", "world_size", "data"),
)


def describe() -> dict[str, object]:
    """Return versions, machine, command line and commit; the commit is None without a checkout."""
    return {
        "cnnbench": cnnbench.__version__,  # as a checkout on PYTHONPATH has no metadata
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "cpu_quota": cpu_quota(),
        "openmp": openmp_variables(),
        "commit": _commit(Path(__file__).parents[2]),
        "command": shlex.join(sys.orig_argv),
        "folder": str(Path.cwd()),
    }


def record_resume(run: RunDirectory, now: Mapping[str, Any], where: Mapping[str, Any]) -> list[str]:
    """Record in environment.json that the run is resumed, and return the differences in words.

    `now` is the present environment, as from `describe`. `where` has the epoch and step.

    Raises:
        OSError: the file cannot be written.
    """
    # if the file is lost or damaged, record the present environment
    began = read_json_or_empty(run.path / "environment.json") or dict(now)
    known = [key for key in REPRODUCIBILITY_KEYS if key in began]
    differs = {key: now[key] for key in known if began[key] != now.get(key)}
    continuation = {
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": now["command"],
        "host": now["host"],
        **where,
        "differs": differs,
    }
    earlier = began.get("continued")
    earlier = earlier if isinstance(earlier, list) else []
    run.write_json("environment.json", {**began, "continued": [*earlier, continuation]})
    return [f"{key} {began[key]} is now {value}" for key, value in differs.items()]


@cache
def _commit(checkout: Path) -> str | None:
    """Return the commit of a checkout, with ``+changes`` if tracked files differ from it.

    The answer of the first call is kept.
    """
    if not (checkout / ".git").exists():
        return None
    # without locks, as a command that is killed would leave its lock behind
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "-uno"]
    try:
        done = subprocess.run(command, cwd=checkout, capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    first, *_, last = os.fsdecode(done.stdout).splitlines()
    commit = first.removeprefix("# branch.oid ")
    return commit if last.startswith("#") else f"{commit}+changes"
