"""Compare runs: a table by validation accuracy, with mean and deviation over seeds, and a CSV."""

import os
import shutil
import statistics
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.analysis.format import fit, format_count, mean_and_std, printable, table_width
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
    Group,
    group_runs,
    grouping_keys,
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

# accuracies of runs that differ in these are of different examples
MEASURED_KEYS = ("data", "data.path", "data.validation", "data.folds", "data.test_examples")

Columns = list[list[str]]  # each with its heading
MAX_WIDTH = 10_000  # of a table in a file


def print_comparison(directories: Sequence[Path]) -> list[Record]:
    """Print how the runs in or below the directories compare; write sweep.csv into those of sweeps.

    A sweep.csv that cannot be written, as in another user's sweep, is reported on stderr.

    Raises:
        ConfigError: a directory holds no run.
        OSError: a directory cannot be read.
    """
    found: dict[Path, Record] = {}  # a run that is given twice is one
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
    """Return the table of the finished runs, the best command, and what became of the others.

    Lines are at most as wide as the terminal, but for commands and paths.
    """
    finished = [run for run in runs if run.state == "finished"]
    same = _shared(runs)
    parts = [count_by_state(runs) + (f"\n{_wrap(f'all with {same}')}" if same else "")]
    if finished:
        columns = grouping_keys(runs)
        groups, apart = group_runs(finished, columns), _measured_apart(finished)
        places: dict[tuple[str, ...], int] = {}  # of data, by their best row: its rows are together
        for alike in groups:
            places.setdefault(_measured(alike, apart), len(places))
        groups.sort(key=lambda alike: places[_measured(alike, apart)])
        parts.append(_table(runs, groups, columns))
        reason = f"no best run: accuracies do not compare where {' and '.join(apart)} differ"
        parts.append(_wrap(reason) if apart else _best(groups[0]))
    if len(finished) < len(runs):
        parts.append(_unfinished(runs, varying_keys(runs)))
    return printable("\n\n".join(parts))


def count_by_state(runs: Sequence[Record]) -> str:
    """Return the number of runs by state, such as ``3 runs: 2 finished, 1 failed``."""
    counts = Counter(run.state for run in runs)
    parts = [f"{counts[state]:,} {state}" for state in STATES if state in counts]
    return f"{format_count(len(runs), 'run')}: {', '.join(parts)}"


def _shared(runs: Sequence[Record]) -> str:
    """Return the given values that are the same for all, such as ``data=sample train.epochs=8``."""
    varied = varying_keys(runs)
    return " ".join(
        f"{key}={runs[0].value(key)}" for key in override_keys(runs) if key not in varied
    )


def _measured_apart(runs: Sequence[Record]) -> list[str]:
    """Return the keys by which the accuracies of runs are of different examples."""
    return [key for key in MEASURED_KEYS if len({run.plain_value(key) for run in runs}) > 1]


def _measured(group: Group, apart: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(group.runs[0].plain_value, apart))


def _table(runs: Sequence[Record], groups: Sequence[Group], keys: Sequence[str]) -> str:
    """Return a row for each group: settings, figures, and last the settings that matter least."""
    parts = ["validation", "test"]
    parts = [part for part in parts if any(alike.accuracies(part) for alike in groups)]
    repeated = [key for key in varying_keys(runs) if key in REPEATED_KEYS]
    settings: Columns = []
    minor: Columns = []
    for place, key in enumerate(keys):
        is_given = key in ("model", "data", *override_keys(runs))
        is_minor = not is_given or is_below(key, ("device", *IGNORED_KEYS))
        column = [key, *(alike.values[place] for alike in groups)]
        (minor if is_minor else settings).append(column)
    figures = []
    for part in parts:
        accuracies = [mean_and_std(alike.accuracies(part)) for alike in groups]
        figures.append([f"{part} accuracy", *accuracies])
    if repeated:
        figures.append(["runs", *(str(len(alike.repetitions)) for alike in groups)])
    epochs, times = ["epochs"], ["train + eval"]
    for alike in groups:
        epochs.append("-".join(dict.fromkeys(str(len(run.rows)) for run in alike.runs)))
        times.append(f"{statistics.fmean(alike.times):.1f} s" if alike.times else "")
    lines = [_fit(settings, [*figures, epochs, times], minor)]
    if repeated:
        over = " and ".join(f"{key.rpartition('.')[2]}s" for key in repeated)
        lines.append(_wrap(f"mean ± standard deviation over {over}"))
    if parts == ["test"]:
        lines.append(_wrap("nothing was held out: sorted by test accuracy"))
    return "\n".join(lines)


def _fit(settings: Columns, figures: Columns, minor: Columns) -> str:
    """Return the table in the width of the terminal.

    First headings are shortened, then minor columns are left out, then `fit` does the rest.
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
    lines = [fit(rows(), right, width)]
    if left_out:
        lines.append(_wrap(f"only in the CSV file: {', '.join(left_out)}"))
    return "\n".join(lines)


def _terminal_width() -> int:
    """Return the columns of the terminal, and of an output that is none more than any line has."""
    return shutil.get_terminal_size((MAX_WIDTH, 0)).columns


def _wrap(text: str) -> str:
    """Return a sentence in lines as wide as the terminal; long words stay whole."""
    style: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, _terminal_width(), subsequent_indent="  ", **style)


def _best(group: Group) -> str:
    run = group.runs[0]
    words = ["cnnbench"]
    if run.config_dir is not None:
        words += ["--config-dir", os.path.relpath(run.config_dir)]
    for override in run.overrides:
        key, equals, typed = override.partition("=")
        if not is_below(key, BOOKKEEPING_KEYS):
            is_as_given = not equals or run.value(key) == typed
            words.append(override if is_as_given else format_override(key, run.value(key)))
    return f"the best: {join_words(words)}"


def _unfinished(runs: Sequence[Record], varied: Sequence[str]) -> str:
    """Return what became of the runs that are not finished, first of those with an error."""
    others = [run for run in runs if run.state != "finished"]
    lines = []
    for run in sorted(others, key=lambda run: not run.error):
        which = " ".join(f"{key}={run.value(key)}" for key in varied) or run.path.name
        so_far = f" after epoch {len(run.rows)}" if run.rows else ""
        lines.append(_wrap(f"{run.state}{so_far}: {which}"))
        lines += [_wrap(f"  {run.error}")] if run.error else []
        if run.state == "failed":
            lines.append(f"  more: {os.path.relpath(run.path / 'status.json')}")
    return "\n".join(lines)
