"""What a run ran on and with: enough to judge its figures, or to repeat it."""

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import cnnbench

__all__ = ["describe"]

_PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf")


def describe() -> dict[str, object]:
    """Versions, machine, commit (of a checkout of cnnbench; None if installed from a wheel), command line."""
    return {
        "cnnbench": cnnbench.__version__,  # a checkout on PYTHONPATH has no metadata
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "commit": _commit(Path(__file__).parents[2]),
        "command": shlex.join(sys.orig_argv),
        "folder": str(Path.cwd()),
    }


def _commit(checkout: Path) -> str | None:
    """The commit checked out at `checkout`, with ``+changes`` if files differ from it."""
    if not (checkout / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(checkout), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + "+changes" if git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None
