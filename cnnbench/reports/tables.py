"""Tables of runs and of their means over seeds, in columns.

The page, report.csv and report.md are made of them.
"""

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cnnbench.analysis.format import mean_and_std, truncate
from cnnbench.config import REPEATED_KEYS
from cnnbench.reports.grouping import RunGroup, group_runs, grouping_keys, override_keys
from cnnbench.runs.records import Record

__all__ = [
    "NAMED",
    "SETTINGS",
    "Cell",
    "Column",
    "as_text",
    "escape_markdown",
    "find_constant_columns",
    "format_markdown",
    "make_csv_rows",
    "tabulate_groups",
    "tabulate_runs",
]

MAX_CELL = 300  # characters in a cell
SETTINGS = {
    "model": "network",
    "data": "data",
    "data.resize": "size (px)",
    "optimizer": "optimizer",
    "optimizer.lr": "lr",
    "train.batch_size": "batch",
    "seed": "seed",
    "data.fold": "fold",
}
# groups of the configuration: a cell shows the name of the choice
NAMED = ("model", "data", "optimizer")

# heading, format, and whether more is better
FIGURES = {
    "parameters": ("parameters", ",.0f", False),
    "multiply_adds": ("multiply-adds", ",.0f", False),
    "test_accuracy": ("test accuracy", ".4f", True),
    "validation_accuracy": ("best validation accuracy", ".4f", True),
    "epochs": ("epochs", ",.0f", False),
    "train_eval_s": ("train + eval (s)", ",.1f", False),
    "examples_per_s": ("examples/s", ",.0f", True),
    "peak_gib": ("memory (GiB)", ".2f", False),
    "best_epoch": ("best epoch", ",.0f", False),
    "validation_loss": ("validation loss", ".4f", False),
    "test_loss": ("test loss", ".4f", False),
    "train_loss": ("train loss", ".4f", False),
    "train_accuracy": ("train accuracy", ".4f", True),
}
# figures that result.json has at its top level
RESULT_KEYS = ("parameters", "multiply_adds", "test_accuracy", "test_loss")


class Cell(NamedTuple):
    """The text of a cell, and its number if the text shows one."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Column:
    """One cell for each row.

    `name` is the key of the configuration or, for a figure, its name in the run's files. `heading`
    has the unit.
    """

    name: str
    heading: str
    cells: list[Cell]
    kind: Literal["setting", "figure", "fact"] = "setting"
    more_is_better: bool = False

    @property
    def is_empty(self) -> bool:
        return not any(cell.text for cell in self.cells)

    @property
    def is_numeric(self) -> bool:
        filled = [cell for cell in self.cells if cell.text]
        return bool(filled) and all(cell.number is not None for cell in filled)


def tabulate_runs(runs: Sequence[Record]) -> list[Column]:
    """Return a table with a row for each run: settings, figures, state, all overridden keys."""
    known: list[Column] = []
    figures = [_figures_of(run) for run in runs]
    for name in FIGURES:
        known.append(_figures(name, [of_run.get(name, ()) for of_run in figures]))
    for name, read in FACTS.items():
        known.append(Column(name, name, [Cell(as_text(read(run))) for run in runs], "fact"))
    wanted = [key.lstrip("+") for key in (*override_keys(runs), *grouping_keys(runs))]
    taken = {column.name for column in known}
    # device=cpu sets device.name; the column "device" has the device that was used
    others = dict.fromkeys(f"{key}.name" if key in taken else key for key in wanted)
    keys = [key for key in others if key.removesuffix(".name") not in NAMED]
    settings = [_settings(key, runs) for key in SETTINGS]
    return settings + known + [_settings(key, runs) for key in keys if key not in SETTINGS]


def tabulate_groups(runs: Sequence[Record]) -> list[Column]:
    """Return a table of means and standard deviations, with a row for each group of repetitions.

    Without repetitions it has no columns.
    """
    keys = grouping_keys(runs)
    groups = group_runs([run for run in runs if run.state == "finished"], keys)
    counts = [len(group.repetitions) for group in groups]
    if max(counts, default=1) == 1:
        return []
    first_runs = [group.runs[0] for group in groups]
    columns = [_settings(key.lstrip("+"), first_runs) for key in keys]
    columns.append(Column("n", "n", [Cell(str(count), float(count)) for count in counts], "figure"))
    for key in REPEATED_KEYS:
        cells = [_values(group, key) for group in groups]
        columns.append(Column(key, f"{SETTINGS[key]}s", cells))
    for part in ("test", "validation"):
        accuracies = [group.accuracies(part) for group in groups]
        columns.append(_figures(f"{part}_accuracy", accuracies))
    columns.append(_figures("train_eval_s", [group.times for group in groups]))
    return columns


def find_constant_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the columns whose cells are the same in all rows, if there are several rows."""
    several = [column for column in columns if len(column.cells) > 1 and not column.is_empty]
    return [column for column in several if len(set(column.cells)) == 1]


def make_csv_rows(columns: Sequence[Column]) -> list[dict[str, object]]:
    """Return the rows of a CSV file, with every digit of figures.

    No text begins as a formula of a spreadsheet does.
    """
    cells = zip(*(column.cells for column in columns), strict=True)
    names = [_quote_formula(column.name) for column in columns]
    return [dict(zip(names, map(_csv_value, row, columns), strict=True)) for row in cells]


def format_markdown(columns: Sequence[Column]) -> str:
    """Return a table in GitHub's Markdown, without columns that are empty."""
    columns = [column for column in columns if not column.is_empty]
    lines = [
        [escape_markdown(column.heading) for column in columns],
        ["---:" if column.is_numeric else "---" for column in columns],
    ]
    for row in zip(*(column.cells for column in columns), strict=True):
        lines.append([escape_markdown(cell.text) for cell in row])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_text(value: object) -> str:
    """Return an untrusted value as one line of text that fits into a cell."""
    return truncate(str(value), MAX_CELL)


def _settings(key: str, runs: Sequence[Record]) -> Column:
    heading = SETTINGS.get(key, key.removesuffix(".name"))
    return Column(as_text(key), as_text(heading), [_setting(run, key) for run in runs])


def _setting(run: Record, key: str) -> Cell:
    names = (f"{key}.name", key) if key in NAMED else (key, f"+{key}")
    value = next(filter(None, map(run.plain_value, names)), "")
    title = run.dataset.get("title")
    if key == "data" and value == "folder" and isinstance(title, str):
        value = title
    try:
        number = float(value)
    except ValueError:
        return Cell(value.lower() if value in ("True", "False") else as_text(value))
    is_shown = abs(number) < 1e300  # false for NaN
    return Cell(as_text(value.removesuffix(".0")), number if is_shown else None)


def _figures(name: str, values: Sequence[Sequence[float]]) -> Column:
    """Return the column of a figure: `values` has for each row one, several to average, or none."""
    heading, form, more_is_better = FIGURES[name]
    cells = []
    for row in values:
        mean = statistics.fmean(row) if row else None
        cells.append(Cell(mean_and_std(row, form), mean))
    return Column(name, heading, cells, "figure", more_is_better)


def _figures_of(run: Record) -> dict[str, tuple[float]]:
    """Return the figures that a run has. An unfinished run has its best accuracy so far."""
    best = run.validation_accuracy
    if not run.result:
        best = max(run.column("validation_accuracy"), default=None)
    speeds = run.column("examples_per_s")
    figures = {name: run.figure(name) for name in RESULT_KEYS} | {
        "validation_accuracy": best,
        "epochs": len(run.rows) or None,
        "train_eval_s": run.train_eval_s,
        "examples_per_s": statistics.median(speeds) if speeds else None,
        "peak_gib": max(run.column("peak_gib"), default=None),
        "best_epoch": run.figure("best", "epoch"),
        "validation_loss": run.figure("best", "validation_loss"),
        "train_loss": run.figure("final", "train_loss"),
        "train_accuracy": run.figure("final", "train_accuracy"),
    }
    return {name: (figure,) for name, figure in figures.items() if figure is not None}


def _values(group: RunGroup, key: str) -> Cell:
    """Return the values of the repetitions, such as ``0, 1, 2``."""
    cells = [_setting(run, key) for run in group.repetitions]
    cells.sort(key=lambda cell: cell.number or 0.0)
    return Cell(", ".join(dict.fromkeys(cell.text for cell in cells if cell.text)))


def _device(run: Record) -> str:
    """Return the device that a run used, such as ``cuda (NVIDIA H100)``."""
    device, chip, processes = map(run.environment.get, ("device", "chip", "world_size"))
    if not isinstance(device, str):
        device = run.result.get("device")
    if not isinstance(device, str):
        return ""
    several = f"{processes} x " if isinstance(processes, int) and processes > 1 else ""
    return f"{several}{device}" + (f" ({chip})" if isinstance(chip, str) else "")


FACTS: dict[str, Callable[[Record], str]] = {
    "device": _device,
    "precision": lambda run: str({**run.result, **run.environment}.get("precision", "")),
    "tta": lambda run: "hflip" if run.result.get("tta") == "hflip" else "",
    "status": lambda run: run.state,
    "error": lambda run: run.error,
    "directory": lambda run: str(run.path),
}


def _csv_value(cell: Cell, column: Column) -> object:
    if column.kind == "figure":
        if cell.number is not None and cell.number.is_integer():
            return int(cell.number)
        return cell.number
    return cell.text if cell.number is not None else _quote_formula(cell.text)


def _quote_formula(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def escape_markdown(text: str) -> str:
    """Return the text such that Markdown shows it unchanged.

    An underscore inside a word needs no backslash.
    """
    return re.sub(r"([\\`*\[\]<>|&~$#]|\b_|_\b)", r"\\\1", text)
