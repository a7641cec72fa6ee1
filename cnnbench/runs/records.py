"""What run directories tell of their runs, to compare them: anyone's, unfinished or damaged too."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cnnbench import config
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import STATUS
from cnnbench.runs.reading import find_runs, read_json, read_status, read_text
from cnnbench.runs.sweep import recorded_jobs

__all__ = ["Record", "read_records", "read_rows"]

NOT_BEGUN = "not begun"


@dataclass(frozen=True)
class Record:
    """A run: where it is, how it went, what it was asked for, and its figures.

    `state` is running, finished, interrupted, failed or, for a job that has no directory yet, not begun. `rows` are
    those of metrics.csv.
    """

    path: Path
    state: str
    overrides: Sequence[str]
    config: dict[str, Any]
    status: dict[str, Any]
    result: dict[str, Any]
    rows: list[dict[str, float]]

    @cached_property
    def _given(self) -> dict[str, str]:
        """The overrides, by key."""
        return dict(override.split("=", 1) for override in self.overrides if "=" in override)

    def figure(self, *keys: str) -> float | None:
        """A number of result.json, such as ``figure("best", "validation_accuracy")``; None if there is none."""
        value: Any = self.result
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return float(value) if type(value) in (int, float) and abs(value) < 1e300 else None  # which NaN is not

    @property
    def validation_accuracy(self) -> float | None:
        """Of the epoch that was chosen; None with data.validation=0, where nothing is chosen."""
        return self.figure("best", "validation_accuracy")

    def value(self, key: str) -> str:
        """What the run has for a key of the configuration, or for a group; nothing if it has no such key.

        It is spelt as it was given, unless a run that went on has another value by now.
        """
        given = self._given.get(key)
        value: Any = self.config
        for part in key.lstrip("+").split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, dict):
            value = value.get("name", "")
        elif given is None or (value is not None and not _same(given, value)):
            return "" if value is None else str(value)
        return str(value) if given is None else given


def _same(given: str, value: Any) -> bool:
    """Whether a word of the command line stands for the value."""
    try:
        return bool(given == str(value) or yaml.safe_load(given) == value or float(given) == value)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, yaml.YAMLError):
        return False  # some are what YAML's tags lead to


def read_records(directory: Path) -> list[Record]:
    """The run in `directory` or, of a sweep, all its jobs, those that are not begun too.

    Raises:
        ConfigError: there is none.
    """
    jobs = {} if (directory / STATUS).exists() else recorded_jobs(directory)
    begun = {} if jobs and not any(directory.glob(f"*/{STATUS}")) else {run.name: run for run in find_runs(directory)}
    waiting = [name for name in jobs if name not in begun]
    return [
        *(_read(run, jobs.get(name)) for name, run in begun.items()),
        *(Record(directory / name, NOT_BEGUN, jobs[name], {}, {}, {}, []) for name in waiting),
    ]


def _read(run: Path, overrides: Sequence[str] | None) -> Record:
    status = read_status(run)
    values: dict[str, Any] = {}
    result: dict[str, Any] = {}
    with suppress(OSError, ValueError, ConfigError):
        values = config.parse(read_text(run / "config.yaml"))
    if status["state"] == "finished":
        with suppress(OSError, ValueError):
            result = read_json(run / "result.json")
    if overrides is None:
        overrides = _hydras(run)
    return Record(run, status["state"], overrides, values, status, result, list(read_rows(run)))


def _hydras(run: Path) -> list[str]:
    """The overrides as Hydra recorded them; all are strings."""
    try:
        overrides = yaml.load(read_text(run / ".hydra" / "overrides.yaml"), yaml.BaseLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return []
    return [each for each in overrides if isinstance(each, str)] if isinstance(overrides, list) else []


def read_rows(run: Path) -> Iterator[dict[str, float]]:
    """The rows of metrics.csv, up to the first that is damaged."""
    with suppress(OSError, ValueError, TypeError, csv.Error):
        for row in csv.DictReader(io.StringIO(read_text(run / "metrics.csv"))):
            yield {str(name): float(value) for name, value in row.items()}
