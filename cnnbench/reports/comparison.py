"""Compare runs: a table by validation accuracy, with mean and deviation over seeds, and a CSV."""

import os
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cnnbench.analysis.format import align, format_count, mean_and_std, printable
from cnnbench.config import BOOKKEEPING_KEYS, REPEATED_KEYS, format_override, is_below
from cnnbench.errors import explain_write_error
from cnnbench.reports.groups import Group, differing, distinguishing, given, group, ranked
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.records import Record, read_records
from cnnbench.runs.sweep import recorded_jobs

__all__ = ["as_rows", "compare", "error", "how_many", "print_comparison", "shared"]

CSV = "sweep.csv"

STATES = ("finished", "running", "interrupted", "failed", "refused", "not begun")

# the figures in sweep.csv, and where result.json has them
FIGURES = {
    "best_epoch": ("best", "epoch"),
    "validation_accuracy": ("best", "validation_accuracy"),
    "validation_loss": ("best", "validation_loss"),
    "test_accuracy": ("test_accuracy",),
    "test_loss": ("test_loss",),
    "train_loss": ("final", "train_loss"),
    "train_accuracy": ("final", "train_accuracy"),
    "wall_s": ("wall_s", "total"),
}


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
                RunDirectory(directory).write_rows(CSV, as_rows(runs))
            except OSError as error:
                again = f"cnnbench report {shlex.quote(str(directory))} tries again."
                message = explain_write_error(error.filename, error, again)
                print(f"cnnbench: {printable(str(message))}", file=sys.stderr)
        found |= {run.path.resolve(): run for run in runs}
    print(compare(list(found.values())))
    return list(found.values())


def compare(runs: Sequence[Record]) -> str:
    """Return the table of the finished runs, the best command, and what became of the others."""
    finished = [run for run in runs if run.state == "finished"]
    varied, same = differing(runs), shared(runs)
    parts = [how_many(runs) + (f"\nall with {same}" if same else "")]
    if finished:
        columns = distinguishing(runs)
        groups = group(finished, columns)
        repeated = [key for key in varied if key in REPEATED_KEYS]
        parts += [_table(groups, columns, repeated), _best(groups[0])]
    if len(finished) < len(runs):
        parts.append(_unfinished(runs, varied))
    return printable("\n\n".join(parts))


def as_rows(runs: Sequence[Record]) -> list[dict[str, object]]:
    """Return the rows of sweep.csv: one for each run with every given key, the best first."""
    keys = given(runs)
    return [
        {
            "job": run.path.name,
            "state": run.state,
            **{key: run.value(key) for key in keys},
            "epochs": len(run.rows),
            **{name: run.figure(*place) for name, place in FIGURES.items()},
            "error": error(run),
        }
        for run in ranked(runs)
    ]


def how_many(runs: Sequence[Record]) -> str:
    """Return the number of runs by state, such as ``3 runs: 2 finished, 1 failed``."""
    counts = Counter(run.state for run in runs)
    parts = [f"{counts[state]:,} {state}" for state in STATES if state in counts]
    return f"{format_count(len(runs), 'run')}: {', '.join(parts)}"


def shared(runs: Sequence[Record]) -> str:
    """Return the given values that are the same for all, such as ``data=sample train.epochs=8``."""
    varied = differing(runs)
    return " ".join(f"{key}={runs[0].value(key)}" for key in given(runs) if key not in varied)


def _table(groups: Sequence[Group], columns: Sequence[str], repeated: Sequence[str]) -> str:
    parts = ["validation", "test"]
    parts = [part for part in parts if any(alike.accuracies(part) for alike in groups)]
    counted = ["runs"] if repeated else []
    rows = [[*columns, *(f"{part} accuracy" for part in parts), *counted, "epochs", "time"]]
    for alike in groups:
        accuracies = [mean_and_std(alike.accuracies(part)) for part in parts]
        number = [str(len(alike.repetitions))] if repeated else []
        epochs = "-".join(dict.fromkeys(str(len(run.rows)) for run in alike.runs))
        time = statistics.fmean(run.figure("wall_s", "total") or 0.0 for run in alike.runs)
        rows.append([*alike.values, *accuracies, *number, epochs, f"{time:.1f} s"])
    lines = [align(rows, right=range(len(columns), len(rows[0])))]
    if repeated:
        over = " and ".join(f"{key.rpartition('.')[2]}s" for key in repeated)
        lines.append(f"mean ± standard deviation over {over}")
    if parts == ["test"]:
        lines.append("nothing was held out: sorted by test accuracy")
    return "\n".join(lines)


def _best(group: Group) -> str:
    run = group.runs[0]
    words = ["cnnbench"]
    for override in run.overrides:
        key, equals, typed = override.partition("=")
        if not is_below(key, BOOKKEEPING_KEYS):
            is_as_given = not equals or run.value(key) == typed
            words.append(override if is_as_given else format_override(key, run.value(key)))
    return f"the best: {shlex.join(words)}"


def _unfinished(runs: Sequence[Record], varied: Sequence[str]) -> str:
    """Return what became of the runs that are not finished, first of those with an error."""
    others = [run for run in runs if run.state != "finished"]
    lines = []
    for run in sorted(others, key=lambda run: not error(run)):
        which = " ".join(f"{key}={run.value(key)}" for key in varied) or run.path.name
        so_far = f" after epoch {len(run.rows)}" if run.rows else ""
        lines.append(f"{run.state}{so_far}: {which}")
        lines += [f"  {error(run)}"] if error(run) else []
        if run.state == "failed":
            lines.append(f"  more: {os.path.relpath(run.path / 'status.json')}")
    return "\n".join(lines)


def error(run: Record) -> str:
    """Return the first line of the error of a failed run, or of why one was refused."""
    is_told = run.state in ("failed", "refused")
    return str(run.status.get("error", "")).partition("\n")[0] if is_told else ""
