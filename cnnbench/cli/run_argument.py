"""The argument that names a run directory, or `latest` for the newest run."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cnnbench.analysis.format import printable
from cnnbench.runs.reading import find_latest

__all__ = ["LATEST", "locate_run", "remove_run_argument"]

LATEST = "latest"


def locate_run(word: str) -> Path:
    """Return the directory that a word names; print which run `latest` is.

    Raises:
        ConfigError: there is no run yet.
    """
    if word != LATEST or Path(word).is_dir():
        return Path(word)
    run = find_latest()
    print(printable(f"cnnbench: latest is {run}"), file=sys.stderr)
    return run


def remove_run_argument(run: str, arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the word that names the run."""
    position = arguments.index(run)
    return [*arguments[:position], *arguments[position + 1 :]]
