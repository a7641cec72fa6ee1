"""What run directories tell of their runs, to compare them: anyone's, unfinished or damaged too."""

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cnnbench import config
from cnnbench.errors import ConfigError, from_machine
from cnnbench.runs.directory import STATUS
from cnnbench.runs.reading import read_json, read_status, read_text, refuse_ways_out
from cnnbench.runs.sweep import recorded_jobs

__all__ = ["Record", "read_records", "read_rows"]

MAX_DEPTH = 4  # folders below the one given: ./outputs/sweeps/<sweep>/<job>


@dataclass(frozen=True)
class Record:
    """A run: where it is, how it went, what it was asked for, and its figures.

    `state` is running, finished, interrupted, failed or, for a job without a directory, not begun.
    It is refused, with the reason in `status`, if links in it lead elsewhere or it cannot be read.
    `rows` are those of metrics.csv; the last three are JSON files of that name, empty without one.
    """

    path: Path
    state: str
    overrides: Sequence[str]
    config: dict[str, Any]
    status: dict[str, Any]
    result: dict[str, Any]
    rows: list[dict[str, float]]
    environment: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _given(self) -> dict[str, str]:
        """The overrides, by key."""
        return dict(override.split("=", 1) for override in self.overrides if "=" in override)

    def figure(self, *keys: str) -> float | None:
        """A number of result.json, such as ``figure("best", "validation_accuracy")``; None if there is none."""
        value = _look_up(self.result, keys)
        is_number = type(value) in (int, float) and abs(value) < 1e150  # which NaN is not; its square is a number too
        return float(value) if is_number else None

    @property
    def validation_accuracy(self) -> float | None:
        """Of the epoch that was chosen; None with data.validation=0, where nothing is chosen."""
        return self.figure("best", "validation_accuracy")

    def column(self, name: str) -> list[float]:
        """The numbers in a column of metrics.csv, without those that are not finite."""
        return [row[name] for row in self.rows if math.isfinite(row.get(name, math.nan))]

    def value(self, key: str) -> str:
        """What the run has for a key of the configuration, or for a group; nothing if it has no such key.

        It is spelt as it was given, unless a run that went on has another value by now.
        """
        given, value = self._given.get(key), self._configured(key)
        if given is None or (value is not None and not isinstance(value, dict) and not _same(given, value)):
            return self.plain_value(key)
        return given

    def plain_value(self, key: str) -> str:
        """As `value`, spelt the same in all runs: 0.001 for 1e-3 too."""
        value = self._configured(key)
        if isinstance(value, dict):
            value = value.get("name")
        return self._given.get(key, "") if value is None else str(value)

    def _configured(self, key: str) -> Any:
        return _look_up(self.config, key.lstrip("+").split("."))


def _look_up(values: Any, keys: Sequence[str]) -> Any:
    """Return what is there by these keys, each inside the one before; None if there is nothing."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _same(given: str, value: Any) -> bool:
    """Whether a word of the command line stands for the value."""
    try:
        return bool(given == str(value) or yaml.safe_load(given) == value or float(given) == value)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, yaml.YAMLError):
        return False  # some are what YAML's tags lead to


def read_records(directory: Path) -> list[Record]:
    """The training run in `directory`, or those below it; of sweeps all jobs, those that are not begun too.

    Looked into are folders up to `MAX_DEPTH` below, neither links nor what is inside a run.

    Raises:
        ConfigError: there is none, or `directory` has a damaged record of a sweep.
        OSError: `directory` cannot be read. What cannot be below it is refused.
    """
    found = [_read(directory, None)] if (directory / STATUS).exists() else _below(directory, MAX_DEPTH)
    runs = [run for run in found if run.status.get("verb", "train") == "train"]  # those of benchmarks have no epochs
    if not runs:
        there = f"holds no run: there is no {STATUS} of training up to {MAX_DEPTH} folders down"
        raise ConfigError(
            f"{directory} {there if directory.is_dir() else 'is no directory'}. "
            "Give run or sweep directories, or a folder of them, such as outputs."
        )
    return runs


def _below(folder: Path, depth: int) -> list[Record]:
    jobs = recorded_jobs(folder)
    try:
        inside = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        inside = []
    found: list[Record] = []
    for name in inside:
        path = folder / name
        try:
            if _is_run(path):
                found.append(_read(path, jobs.get(name)))
            elif depth > 1:
                found += _below(path, depth - 1)
        except (ConfigError, OSError) as error:
            found.append(_refused(path, jobs.get(name), error))
    begun = {run.path for run in found}
    for name, overrides in jobs.items():
        if folder / name not in begun:
            found.append(Record(folder / name, "not begun", overrides, {}, {}, {}, []))
    return found


def _is_run(folder: Path) -> bool:
    """Return whether a run is in `folder`; raise OSError where that cannot be seen."""
    try:
        (folder / STATUS).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _refused(run: Path, overrides: Sequence[str] | None, error: Exception) -> Record:
    reason = str(from_machine(error) or error)
    return Record(run, "refused", overrides or [], {}, {"error": reason}, {}, [])


def _read(run: Path, overrides: Sequence[str] | None) -> Record:
    try:
        refuse_ways_out(run)  # what they lead to may be secret, and a report is made to be shown
        status = read_status(run)
    except (ConfigError, OSError) as error:
        return _refused(run, overrides, error)
    values: dict[str, Any] = {}
    with suppress(OSError, ValueError, ConfigError):
        values = config.parse(read_text(run / "config.yaml"))
    return Record(
        run,
        status["state"],
        _hydras(run) if overrides is None else overrides,
        values,
        status,
        _object(run / "result.json") if status["state"] == "finished" else {},
        list(read_rows(run)),
        *(_object(run / name) for name in ("environment.json", "dataset.json", "evaluation.json")),
    )


def _object(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing if it is not there or damaged."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


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
