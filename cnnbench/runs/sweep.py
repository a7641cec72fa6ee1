"""The directory of a sweep: the record of its jobs, and the mark that stops it."""

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
MAX_BYTES = 16 << 20  # size of the record: 10,000 jobs of 1.6 kB
MAX_OVERRIDES = 1_000  # per job
RECREATE = "Delete it, and run the original sweep command again."

Jobs = Mapping[str, Sequence[str]]  # the overrides of each job, by the name of its directory


def add_jobs(directory: Path, jobs: Jobs) -> None:
    """Add `jobs` to the record of the sweep.

    Raises:
        ConfigError: the record is damaged.
        OSError: the record cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with Lock(directory / LOCK).taken(WAIT_S):  # another command may be adding jobs
        RunDirectory(directory).write_json(JOBS, {"jobs": {**recorded_jobs(directory), **jobs}})


def recorded_jobs(directory: Path) -> dict[str, list[str]]:
    """Return all recorded jobs of the sweep in `directory`; {} if it has no record.

    Raises:
        ConfigError: the record is damaged.
        OSError: the record cannot be read.
    """
    path = directory / JOBS
    try:
        jobs = read_json(path, MAX_BYTES).get("jobs")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ConfigError(f"{path} cannot be read: {reason}. {RECREATE}") from error
    if not isinstance(jobs, dict) or not all(_is_job(*job) for job in jobs.items()):
        raise ConfigError(f"{path} does not list jobs. {RECREATE}")
    return jobs


def _is_job(name: str, overrides: Any) -> bool:
    """Return whether `name` is the name of one folder, and `overrides` are texts for file names."""
    try:
        "".join([name, *overrides]).encode(errors="surrogateescape")
    except (TypeError, UnicodeEncodeError):  # no texts, or a lone surrogate, which JSON allows
        return False
    is_folder = name not in ("", ".", "..") and "/" not in name and "\0" not in name
    return is_folder and isinstance(overrides, list) and len(overrides) <= MAX_OVERRIDES


def stop(directory: Path) -> None:
    """Let no more jobs of a sweep begin, in any process and on any machine."""
    with suppress(OSError):  # the caller already has an error to report
        os.close(os.open(directory / STOP, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o644))


def is_stopped(directory: Path) -> bool:
    return (directory / STOP).exists()


def allow(directory: Path) -> None:
    """Let the jobs of a sweep begin, after a `stop`."""
    (directory / STOP).unlink(missing_ok=True)
