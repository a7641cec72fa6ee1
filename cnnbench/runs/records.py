"""Records of runs, for comparisons. The runs may be untrusted, unfinished or damaged."""

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

from cnnbench.errors import ConfigError, from_machine
from cnnbench.runs.directory import STATUS
from cnnbench.runs.reading import (
    MAX_DEPTH,
    find_figure,
    look_up,
    read_config,
    read_json_or_empty,
    read_status,
    read_text,
    reject_escaping_links,
)
from cnnbench.runs.sweep import recorded_jobs

__all__ = ["Record", "read_records", "read_rows"]


@dataclass(frozen=True)
class Record:
    """The files of a run: its status, configuration, results and environment.

    `state` is running, finished, interrupted, failed or, for a job without a directory, not begun.
    It is refused if a link in the directory leads out of it or the directory cannot be read. Then
    `status` has the reason. `rows` are the rows of metrics.csv. `environment`, `dataset` and
    `evaluation` are the JSON files of these names, and empty if the file is missing.
    """

    path: Path
    state: str
    overrides: Sequence[str]
    config: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _given(self) -> dict[str, str]:
        """Return the overrides by key."""
        return dict(override.split("=", 1) for override in self.overrides if "=" in override)

    @property
    def config_dir(self) -> str | None:
        """Return the folder given by --config-dir, or None."""
        try:
            recorded = yaml.load(read_text(self.path / ".hydra" / "hydra.yaml"), yaml.BaseLoader)
            sources = look_up(recorded, "hydra", "runtime", "config_sources")
            folders = (file["path"] for file in sources if file["provider"] == "command-line")
            return next(filter(os.path.isabs, folders), None)
        except Exception:  # the file may be missing, and an untrusted one may hold anything
            return None

    def figure(self, *keys: str) -> float | None:
        """Return a number of result.json by its path of keys, or None."""
        return find_figure(self.result, *keys)

    @property
    def validation_accuracy(self) -> float | None:
        """Return the validation accuracy of the best epoch; None without a validation set."""
        return self.figure("best", "validation_accuracy")

    @property
    def train_eval_s(self) -> float | None:
        """Return the seconds of training and evaluation, without imports, data and plots.

        For an unfinished run, return the sum over its epochs.
        """
        train_s, evaluation_s = self.figure("wall_s", "train"), self.figure("wall_s", "evaluation")
        if train_s is not None and evaluation_s is not None:
            return train_s + evaluation_s
        return sum(self.column("epoch_s")) or None

    @property
    def error(self) -> str:
        """Return the first line of the error of a failed or refused run; "" for other runs."""
        if self.state not in ("failed", "refused"):
            return ""
        return str(self.status.get("error", "")).partition("\n")[0]

    def column(self, name: str) -> list[float]:
        """Return the finite numbers in a column of metrics.csv."""
        return [row[name] for row in self.rows if math.isfinite(row.get(name, math.nan))]

    def value(self, key: str) -> str:
        """Return the value of a key of the configuration, or the choice of a group; or "".

        The spelling is that of the override, unless the run was resumed with another value.
        """
        given, value = self._given.get(key), self._configured(key)
        if given is None:
            return self.plain_value(key)
        is_as_given = value is None or isinstance(value, dict) or _has_value(given, value)
        return given if is_as_given else self.plain_value(key)

    def plain_value(self, key: str) -> str:
        """Return the value of a key with the same spelling in all runs, such as 0.001 for 1e-3."""
        value = self._configured(key)
        if isinstance(value, dict):
            value = value.get("name")
        return self._given.get(key, "") if value is None else str(value)

    def _configured(self, key: str) -> Any:
        return look_up(self.config, *key.lstrip("+").split("."))


def _has_value(given: str, value: Any) -> bool:
    """Return whether the text of an override has this value."""
    try:
        return bool(given == str(value) or yaml.safe_load(given) == value or float(given) == value)
    except Exception:  # odd YAML tags raise many kinds of errors
        return False


def read_records(directory: Path) -> list[Record]:
    """Return the training run in `directory`, or the runs below it.

    Search folders up to `MAX_DEPTH` levels down, except links and the inside of runs. Jobs of a
    sweep that have not begun count as runs.

    Raises:
        ConfigError: there is no run, or `directory` has a damaged record of a sweep.
        OSError: `directory` cannot be read. A folder below it that cannot be read is refused.
    """
    if (directory / STATUS).exists():
        found = [_read(directory, None)]
    else:
        found = _read_below(directory, MAX_DEPTH)
    # The runs of cnnbench benchmark have no epochs.
    runs = [run for run in found if run.status.get("verb", "train") == "train"]
    if not runs:
        problem = "is not a directory"
        if directory.is_dir():
            searched = f"up to {MAX_DEPTH} folders down"
            problem = f"holds no run: there is no {STATUS} of training {searched}"
        advice = "Give run or sweep directories, or a folder of them, such as outputs."
        raise ConfigError(f"{directory} {problem}. {advice}")
    return runs


def _read_below(folder: Path, depth: int) -> list[Record]:
    jobs = recorded_jobs(folder)
    names: list[str] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        entries = os.scandir(folder)
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    found: list[Record] = []
    for name in names:
        path = folder / name
        try:
            if (path / STATUS).exists():  # raises an OSError without permission
                found.append(_read(path, jobs.get(name)))
            elif depth > 1:
                found += _read_below(path, depth - 1)
        except (ConfigError, OSError) as error:
            found.append(_refused(path, jobs.get(name), error))
    begun = {run.path.name for run in found if run.path.parent == folder}
    for name, overrides in jobs.items():
        if name not in begun:
            found.append(Record(folder / name, "not begun", overrides))
    return found


def _refused(run: Path, overrides: Sequence[str] | None, error: Exception) -> Record:
    reason = str(from_machine(error) or error)
    return Record(run, "refused", overrides or [], status={"error": reason})


def _read(run: Path, overrides: Sequence[str] | None) -> Record:
    try:
        reject_escaping_links(run)  # a report must not show the content of other files
        status = read_status(run)
    except (ConfigError, OSError) as error:
        return _refused(run, overrides, error)
    values: dict[str, Any] = {}
    with suppress(OSError, ConfigError):
        values = read_config(run)
    is_finished = status["state"] == "finished"
    return Record(
        path=run,
        state=status["state"],
        overrides=_read_overrides(run) if overrides is None else overrides,
        config=values,
        status=status,
        result=read_json_or_empty(run / "result.json") if is_finished else {},
        rows=list(read_rows(run)),
        environment=read_json_or_empty(run / "environment.json"),
        dataset=read_json_or_empty(run / "dataset.json"),
        evaluation=read_json_or_empty(run / "evaluation.json"),
    )


def _read_overrides(run: Path) -> list[str]:
    """Return the overrides that Hydra recorded."""
    try:
        words = yaml.load(read_text(run / ".hydra" / "overrides.yaml"), yaml.BaseLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return []
    if not isinstance(words, list):
        return []
    return [word for word in words if isinstance(word, str)]


def read_rows(run: Path) -> Iterator[dict[str, float]]:
    """Yield the rows of metrics.csv, up to the first damaged row."""
    with suppress(OSError, ValueError, TypeError, csv.Error):
        for row in csv.DictReader(io.StringIO(read_text(run / "metrics.csv"))):
            yield {str(name): float(value) for name, value in row.items() if value != ""}
