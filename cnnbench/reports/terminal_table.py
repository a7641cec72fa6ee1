"""The terminal's table of runs by validation accuracy, with mean and std over seeds."""

import os
import shutil
import statistics
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.analysis.format import fit_table, format_count, mean_and_std, printable, table_width
from cnnbench.config import (
    BOOKKEEPING_KEYS,
    IGNORED_KEYS,
    REPEATED_KEYS,
    format_override,
    is_below,
    join_words,
)
from cnnbench.errors import explain_write_error
from cnnbench.reports.grouping import (
    RunGroup,
    group_runs,
    grouping_keys,
    is_varying,
    override_keys,
    rank_runs,
    varying_keys,
)
from cnnbench.reports.tables import make_csv_rows, tabulate_runs
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.records import Record, read_records
from cnnbench.runs.sweep import recorded_jobs

__all__ = ["count_by_state", "format_comparison", "print_comparison"]

CSV = "sweep.csv"

STATES = ("finished", "running", "interrupted", "failed", "refused", "not begun")

# runs that differ in one of these keys measure their accuracies on different examples
EXAMPLE_KEYS = ("data", "data.path", "data.validation", "data.folds", "data.test_examples")

Columns = list[list[str]]  # the first cell of a column is its heading
MAX_WIDTH = 10_000  # characters in a line of an output that is not a terminal


def print_comparison(directories: Sequence[Path]) -> list[Record]:
    """Print the table of the runs in or below the directories, and return the runs.

    A directory of a sweep gets a sweep.csv. If that cannot be written, as in another user's sweep,
    a message on stderr says so.

    Raises:
        ConfigError: a directory holds no run.
        OSError: a directory cannot be read.
    """
    found: dict[Path, Record] = {}  # by resolved path, so that no run is counted twice
    for directory in directories:
        runs = read_records(directory)
        if recorded_jobs(directory):
            try:
                RunDirectory(directory).write_rows(
                    CSV, make_csv_rows(tabulate_runs(rank_runs(runs)))
                )
            except OSError as error:
                again = f"To try again: {join_words(['cnnbench', 'report', str(directory)])}"
                message = explain_write_error(error.filename, error, again)
                print(f"cnnbench: {printable(str(message))}", file=sys.stderr)
        found |= {run.path.resolve(): run for run in runs}
    print(format_comparison(list(found.values())))
    return list(found.values())


def format_comparison(runs: Sequence[Record]) -> str:
    """Return the table of the finished runs, the best command, and a list of unfinished runs.

    Lines are at most as wide as the terminal, except commands and paths.
    """
    finished = [run for run in runs if run.state == "finished"]
    heading, shared = count_by_state(runs), _shared_overrides(runs)
    if shared:
        heading += f"\n{_wrap(f'all with {shared}')}"
    parts = [heading]
    if finished:
        columns = grouping_keys(runs)
        groups = group_runs(finished, columns)
        keys = [key for key in EXAMPLE_KEYS if is_varying(key, finished)]
        # rows whose accuracies compare stand together, and the best row decides on the order
        places: dict[tuple[str, ...], int] = {}
        for group in groups:
            places.setdefault(_values(group, keys), len(places))
        groups.sort(key=lambda group: places[_values(group, keys)])
        parts.append(_table(runs, groups, columns))
        reason = f"no best run: accuracies do not compare where {' and '.join(keys)} differ"
        parts.append(_wrap(reason) if keys else _best_command(groups[0]))
    if len(finished) < len(runs):
        parts.append(_list_unfinished(runs, varying_keys(runs)))
    return printable("\n\n".join(parts))


def count_by_state(runs: Sequence[Record]) -> str:
    """Return the number of runs by state, such as ``3 runs: 2 finished, 1 failed``."""
    counts = Counter(run.state for run in runs)
    parts = [f"{counts[state]:,} {state}" for state in STATES if state in counts]
    return f"{format_count(len(runs), 'run')}: {', '.join(parts)}"


def _shared_overrides(runs: Sequence[Record]) -> str:
    """Return the overrides that all runs share, such as ``data=sample train.epochs=8``."""
    varying = varying_keys(runs)
    shared = [key for key in override_keys(runs) if key not in varying]
    return " ".join(f"{key}={runs[0].value(key)}" for key in shared)


def _values(group: RunGroup, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(group.runs[0].plain_value, keys))


def _table(runs: Sequence[Record], groups: Sequence[RunGroup], keys: Sequence[str]) -> str:
    """Return a row for each group: settings, figures, and last the settings that matter least."""
    parts = []
    for part in ("validation", "test"):
        if any(group.accuracies(part) for group in groups):
            parts.append(part)
    repeated = [key for key in varying_keys(runs) if key in REPEATED_KEYS]
    settings: Columns = []
    minor: Columns = []
    for place, key in enumerate(keys):
        is_override = key in ("model", "data", *override_keys(runs))
        is_minor = not is_override or is_below(key, ("device", *IGNORED_KEYS))
        column = [key, *(group.values[place] for group in groups)]
        (minor if is_minor else settings).append(column)
    figures = []
    for part in parts:
        accuracies = [mean_and_std(group.accuracies(part)) for group in groups]
        figures.append([f"{part} accuracy", *accuracies])
    if repeated:
        figures.append(["runs", *(str(len(group.repetitions)) for group in groups)])
    epochs, times = ["epochs"], ["train + eval"]
    for group in groups:
        epochs.append("-".join(dict.fromkeys(str(len(run.rows)) for run in group.runs)))
        times.append(f"{statistics.fmean(group.times):.1f} s" if group.times else "")
    lines = [_fit(settings, [*figures, epochs, times], minor)]
    if repeated:
        names = " and ".join(f"{key.rpartition('.')[2]}s" for key in repeated)
        lines.append(_wrap(f"mean ± standard deviation over {names}"))
    if parts == ["test"]:
        lines.append(_wrap("no validation set: sorted by test accuracy"))
    return "\n".join(lines)


def _fit(settings: Columns, figures: Columns, minor: Columns) -> str:
    """Return the table in the width of the terminal.

    Headings are shortened first, then minor columns are left out, then `fit_table` shortens cells.
    """
    width = _terminal_width()
    right = range(len(settings), len(settings) + len(figures))

    def rows() -> list[tuple[str, ...]]:
        return list(zip(*settings, *figures, *minor, strict=True))

    if table_width(rows()) > width:
        ends = Counter(column[0].rpartition(".")[2] for column in settings)
        for column in settings:
            end = column[0].rpartition(".")[2]
            column[0] = end if ends[end] == 1 else column[0]
        for column in figures:
            column[0] = column[0].replace("validation", "val.")
    left_out: list[str] = []
    while minor and table_width(rows()) > width:
        left_out.insert(0, minor.pop()[0])
    lines = [fit_table(rows(), right, width)]
    if left_out:
        lines.append(_wrap(f"only in the CSV file: {', '.join(left_out)}"))
    return "\n".join(lines)


def _terminal_width() -> int:
    """Return the width of the terminal, or one wider than any line if there is no terminal."""
    return shutil.get_terminal_size((MAX_WIDTH, 0)).columns


def _wrap(text: str) -> str:
    """Return a sentence in lines as wide as the terminal, without breaking long words."""
    style: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, _terminal_width(), subsequent_indent="  ", **style)


def _best_command(group: RunGroup) -> str:
    run = group.runs[0]
    words = ["cnnbench"]
    if run.config_dir is not None:
        words += ["--config-dir", os.path.relpath(run.config_dir)]
    for override in run.overrides:
        key, equals, value = override.partition("=")
        if not is_below(key, BOOKKEEPING_KEYS):
            is_unchanged = not equals or run.value(key) == value
            words.append(override if is_unchanged else format_override(key, run.value(key)))
    return f"the best: {join_words(words)}"


def _list_unfinished(runs: Sequence[Record], keys: Sequence[str]) -> str:
    """Return the state of each unfinished run, runs with an error first."""
    unfinished = [run for run in runs if run.state != "finished"]
    lines = []
    for run in sorted(unfinished, key=lambda run: not run.error):
        name = " ".join(f"{key}={run.value(key)}" for key in keys) or run.path.name
        epoch = f" after epoch {len(run.rows)}" if run.rows else ""
        lines.append(_wrap(f"{run.state}{epoch}: {name}"))
        if run.error:
            lines.append(_wrap(f"  {run.error}"))
        if run.state == "failed":
            lines.append(f"  more: {os.path.relpath(run.path / 'status.json')}")
    return "\n".join(lines)
