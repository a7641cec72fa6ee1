"""Runs side by side: a table by validation accuracy, mean and standard deviation over seeds and folds, and a CSV."""

import os
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cnnbench.analysis.format import align, printable
from cnnbench.config import BOOKKEEPING_KEYS, format_override
from cnnbench.reports.groups import REPEATS, Group, differing, distinguishing, given, group, ranked
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.records import Record, read_records
from cnnbench.runs.sweep import recorded_jobs

__all__ = ["as_rows", "compare", "error", "how_many", "print_comparison", "shared"]

CSV = "sweep.csv"

STATES = ("finished", "running", "interrupted", "failed", "refused", "not begun")


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
                message = f"{error.filename} cannot be written: {error.strerror}. {again}"
                print(f"cnnbench: {printable(message)}", file=sys.stderr)
        found |= {run.path.resolve(): run for run in runs}
    print(compare(list(found.values())))
    return list(found.values())


def compare(runs: Sequence[Record]) -> str:
    """The table of the finished runs, the best command line, and what became of the others."""
    finished = [run for run in runs if run.state == "finished"]
    varied = differing(runs)
    same = shared(runs)
    parts = [how_many(runs) + (f"\nall with {same}" if same else "")]
    if finished:
        columns = distinguishing(runs)
        groups = group(finished, columns)
        parts += [_table(groups, columns, [key for key in varied if key in REPEATS]), _best(groups[0])]
    parts += _unfinished(runs, varied)
    return printable("\n\n".join(parts))


def as_rows(runs: Sequence[Record]) -> list[dict[str, object]]:
    """For sweep.csv: a row for each run, with every key that was given to any, the best first."""
    keys = given(runs)
    return [
        {
            "job": run.path.name,
            "state": run.state,
            **{key: run.value(key) for key in keys},
            "epochs": len(run.rows),
            "best_epoch": run.figure("best", "epoch"),
            "validation_accuracy": run.validation_accuracy,
            "validation_loss": run.figure("best", "validation_loss"),
            "test_accuracy": run.figure("test_accuracy"),
            "test_loss": run.figure("test_loss"),
            "train_loss": run.figure("final", "train_loss"),
            "train_accuracy": run.figure("final", "train_accuracy"),
            "wall_s": run.figure("wall_s", "total"),
            "error": error(run),
        }
        for run in ranked(runs)
    ]


def how_many(runs: Sequence[Record]) -> str:
    """Such as ``3 runs: 2 finished, 1 failed``."""
    states = Counter(run.state for run in runs)
    number = f"{len(runs):,} {'run' if len(runs) == 1 else 'runs'}"
    return f"{number}: " + ", ".join(f"{states[state]:,} {state}" for state in STATES if states[state])


def shared(runs: Sequence[Record]) -> str:
    """The values that were given and are the same for all, such as ``data=sample train.epochs=8``."""
    varied = differing(runs)
    return " ".join(f"{key}={runs[0].value(key)}" for key in given(runs) if key not in varied)


def _table(groups: Sequence[Group], columns: Sequence[str], repeats: Sequence[str]) -> str:
    held_out = [part for part in ("validation", "test") if any(group.accuracies(part) for group in groups)]
    counted = ["runs"] if repeats else []
    header = [*columns, *(f"{part} accuracy" for part in held_out), *counted, "epochs", "time"]
    rows = [
        [
            *group.values,
            *(_mean(group.accuracies(part)) for part in held_out),
            *([str(len(group.repetitions))] if repeats else []),
            "-".join(dict.fromkeys(str(len(run.rows)) for run in group.runs)),
            f"{statistics.fmean(run.figure('wall_s', 'total') or 0.0 for run in group.runs):.1f} s",
        ]
        for group in groups
    ]
    notes = (
        [f"mean ± standard deviation over {' and '.join(key.rpartition('.')[2] + 's' for key in repeats)}"]
        if repeats
        else []
    )
    notes += ["nothing was held out: sorted by test accuracy"] if held_out == ["test"] else []
    return "\n".join([align([header, *rows], right=range(len(columns), len(header))), *notes])


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


def _best(group: Group) -> str:
    run = group.runs[0]
    words = []
    for override in run.overrides:
        key, equals, given = override.partition("=")
        if key not in BOOKKEEPING_KEYS:
            is_as_given = not equals or run.value(key) == given
            words.append(override if is_as_given else format_override(key, run.value(key)))
    return f"the best: {shlex.join(['cnnbench', *words])}"


def _unfinished(runs: Sequence[Record], varied: Sequence[str]) -> list[str]:
    """What became of the others, the failed with their errors."""
    others = [run for run in runs if run.state != "finished"]
    if not others:
        return []
    failed = [run for run in others if error(run)]
    lines = []
    for run in [*failed, *(run for run in others if run not in failed)]:
        which = " ".join(f"{key}={run.value(key)}" for key in varied) or run.path.name
        so_far = f" after epoch {len(run.rows)}" if run.rows else ""
        lines.append(f"{run.state}{so_far}: {which}")
        lines += [f"  {error(run)}"] if error(run) else []
        lines += [f"  more: {os.path.relpath(run.path / 'status.json')}"] if run.state == "failed" else []
    return ["\n".join(lines)]


def error(run: Record) -> str:
    """The first line of what a failed run said, or of why one was refused."""
    return str(run.status.get("error", "")).partition("\n")[0] if run.state in ("failed", "refused") else ""
