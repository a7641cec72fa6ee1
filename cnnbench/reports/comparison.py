"""Runs side by side: a table by validation accuracy, mean and standard deviation over seeds and folds, and a CSV."""

import os
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.config import NOT_OF_THE_JOB
from cnnbench.reports.text import align, printable
from cnnbench.runs.records import Record

__all__ = ["as_rows", "compare"]

REPEATS = ("seed", "data.fold")  # runs that differ in these alone are repetitions of one another
STATES = ("finished", "running", "interrupted", "failed", "not begun")
NO_MATTER = (  # to what is computed
    *("sweep", "tracker", "data.root", "device.threads", "train.checkpoint_every", "model.recipe"),
)


@dataclass(frozen=True)
class Group:
    """Finished runs that are repetitions of one another."""

    values: tuple[str, ...]
    runs: list[Record]

    def accuracies(self, part: str) -> list[float]:
        return [figure for run in self.runs if (figure := _accuracy(run, part)) is not None]

    @property
    def rank(self) -> float:
        """What groups are sorted by: the mean accuracy on the validation set or, if none was held out, the test set."""
        return statistics.fmean(self.accuracies("validation") or self.accuracies("test") or [0.0])


def compare(runs: Sequence[Record]) -> str:
    """The table of the finished runs, the best command line, and what became of the others."""
    finished = [run for run in runs if run.state == "finished"]
    keys = _keys(runs)
    differing = [key for key in keys if len({run.value(key) for run in runs}) > 1]
    columns = [key for key in differing if key not in REPEATS]
    columns += _hidden(finished, columns)
    same = " ".join(f"{key}={runs[0].value(key)}" for key in keys if key not in differing)
    parts = [_how_many(runs) + (f"\nall with {same}" if same else "")]
    if finished:
        groups = _group(finished, columns)
        parts += [_table(groups, columns, [key for key in differing if key in REPEATS]), _best(groups[0])]
    parts += _unfinished(runs, differing)
    return printable("\n\n".join(parts))


def as_rows(runs: Sequence[Record]) -> list[dict[str, object]]:
    """For sweep.csv: a row for each run, with every key that was given to any, the best first."""
    keys = _keys(runs)
    ranked = sorted(runs, key=lambda run: -Group((), [run]).rank)
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
            "error": _error(run),
        }
        for run in ranked
    ]


def _keys(runs: Sequence[Record]) -> list[str]:
    """The keys that were given to any run, in the order of their first use."""
    given = (override.partition("=")[0] for run in runs for override in run.overrides if "=" in override)
    return [
        key for key in dict.fromkeys(given) if key not in NOT_OF_THE_JOB and not key.startswith(("hydra.", "hydra/"))
    ]


def _accuracy(run: Record, part: str) -> float | None:
    return run.validation_accuracy if part == "validation" else run.figure("test_accuracy")


def _group(finished: Sequence[Record], columns: Sequence[str]) -> list[Group]:
    """Repetitions together, the best first."""
    together: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for run in finished:
        together[tuple(run.value(key) for key in columns)].append(run)
    return sorted((Group(values, runs) for values, runs in together.items()), key=lambda group: -group.rank)


def _hidden(finished: Sequence[Record], columns: Sequence[str]) -> list[str]:
    """The keys that nobody gave and that differ all the same between runs whose given values are equal.

    They come of other versions of a recipe, or of runs that went on with other values.
    """
    hidden: dict[str, None] = {}
    for group in _group(finished, columns):
        flat = [dict(_flat(run.config)) for run in group.runs]
        names = dict.fromkeys(name for each in flat for name in each)
        hidden |= dict.fromkeys(name for name in names if len({repr(each.get(name)) for each in flat}) > 1)
    return [name for name in hidden if name not in columns and not name.startswith((*REPEATS, *NO_MATTER))]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _how_many(runs: Sequence[Record]) -> str:
    states = Counter(run.state for run in runs)
    number = f"{len(runs):,} {'run' if len(runs) == 1 else 'runs'}"
    return f"{number}: " + ", ".join(f"{states[state]:,} {state}" for state in STATES if states[state])


def _table(groups: Sequence[Group], columns: Sequence[str], repeats: Sequence[str]) -> str:
    held_out = [part for part in ("validation", "test") if any(group.accuracies(part) for group in groups)]
    counted = ["runs"] if repeats else []
    header = [*columns, *(f"{part} accuracy" for part in held_out), *counted, "epochs", "time"]
    rows = [
        [
            *group.values,
            *(_mean(group.accuracies(part)) for part in held_out),
            *([str(len(group.runs))] if repeats else []),
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
    words = [each for each in run.overrides if each.partition("=")[0] not in NOT_OF_THE_JOB]
    now = [f"{key}={run.value(key)}" if "=" in each else each for each in words for key in [each.partition("=")[0]]]
    return f"the best: {shlex.join(['cnnbench', *now])}"


def _unfinished(runs: Sequence[Record], differing: Sequence[str]) -> list[str]:
    """What became of the others, the failed with their errors."""
    others = [run for run in runs if run.state != "finished"]
    if not others:
        return []
    failed = [run for run in others if run.state == "failed"]
    lines = []
    for run in [*failed, *(run for run in others if run not in failed)]:
        which = " ".join(f"{key}={run.value(key)}" for key in differing) or run.path.name
        so_far = f" after epoch {len(run.rows)}" if run.rows else ""
        lines.append(f"{run.state}{so_far}: {which}")
        if run.state == "failed":
            lines += [f"  {_error(run)}", f"  more: {os.path.relpath(run.path / 'status.json')}"]
    return ["\n".join(lines)]


def _error(run: Record) -> str:
    """The first line of what a failed run said."""
    return str(run.status.get("error", "")).partition("\n")[0] if run.state == "failed" else ""
