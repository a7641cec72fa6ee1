"""The directory of a sweep: which jobs belong to it, and the mark that lets no more of them begin."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnbench.errors import ConfigError
from cnnbench.runs.directory import LOCK, RunDirectory
from cnnbench.runs.lock import Lock
from cnnbench.runs.reading import read_json

__all__ = ["JOBS", "Jobs", "add_jobs", "allow", "is_stopped", "recorded_jobs", "stop"]

JOBS, STOP = "sweep.json", ".stop"
WAIT_S = 10.0
MAX_BYTES = 16 << 20  # of the record: 10,000 jobs of 1.6 kB
MAX_OVERRIDES = 1_000  # of a job

Jobs = Mapping[str, Sequence[str]]  # the overrides of each job, by the name of its directory


def add_jobs(directory: Path, jobs: Jobs) -> None:
    """Record `jobs` as belonging to the sweep, beside those that do already.

    Raises:
        ConfigError: what is recorded there is damaged.
        OSError: it cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with Lock(directory / LOCK).taken(WAIT_S):  # another command may add jobs at this moment
        RunDirectory(directory).write_json(JOBS, {"jobs": {**recorded_jobs(directory), **jobs}})


def recorded_jobs(directory: Path) -> dict[str, list[str]]:
    """The jobs that were ever given to the sweep in `directory`; none if it is no sweep.

    Raises:
        ConfigError: the record is damaged.
        OSError: it cannot be read.
    """
    path = directory / JOBS
    try:
        jobs = read_json(path, MAX_BYTES).get("jobs")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise ConfigError(
            f"{path} cannot be read: {str(error).rstrip('.')}. Delete it, and start the sweep by its own command."
        ) from error
    if not isinstance(jobs, dict) or not all(
        _is_job(name, overrides) for name, overrides in jobs.items()
    ):
        raise ConfigError(
            f"{path} does not list jobs. Delete it, and start the sweep by its own command."
        )
    return jobs


def _is_job(name: str, overrides: Any) -> bool:
    """Return whether it names a folder in the sweep's own, and holds words that may name files."""
    try:
        "".join([name, *overrides]).encode(errors="surrogateescape")
    except (TypeError, UnicodeEncodeError):  # other values; half a character, which JSON can hold
        return False
    is_folder = name not in ("", ".", "..") and "/" not in name and "\0" not in name
    return is_folder and isinstance(overrides, list) and len(overrides) <= MAX_OVERRIDES


def stop(directory: Path) -> None:
    """Let no more jobs begin, in whatever process or machine they wait."""
    with suppress(OSError):  # whoever stops a sweep has an error to tell already
        os.close(os.open(directory / STOP, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o644))


def is_stopped(directory: Path) -> bool:
    return (directory / STOP).exists()


def allow(directory: Path) -> None:
    """Let jobs begin."""
    (directory / STOP).unlink(missing_ok=True)
