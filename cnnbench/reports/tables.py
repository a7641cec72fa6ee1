"""The table of runs in columns, for the page, report.csv and report.md, and that of their means over seeds."""

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cnnbench.analysis.format import mean_and_std, truncate
from cnnbench.config import REPEATED_KEYS
from cnnbench.reports.grouping import Group, group_runs, grouping_keys, override_keys
from cnnbench.runs.records import Record

__all__ = [
    "NAMED",
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

MAX_CELL = 300  # characters
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
NAMED = (
    "model",
    "data",
    "optimizer",
)  # groups of the configuration, which go by the name of the choice

# of each figure the heading, the format, and whether more is better
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
PLAIN = ("parameters", "multiply_adds", "test_accuracy", "test_loss")  # as result.json has them


class Cell(NamedTuple):
    """What is shown, nothing if there is nothing, and the number it stands for, if it is one."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Column:
    """One cell for each row.

    `name` is that of the configuration's key or, of a figure, that in the run's files.
    """

    name: str
    heading: str  # with the unit
    cells: list[Cell]
    kind: Literal["setting", "figure", "fact"] = "setting"
    more_is_better: bool = False

    @property
    def is_empty(self) -> bool:
        return not any(cell.text for cell in self.cells)

    @property
    def is_numeric(self) -> bool:
        return not self.is_empty and all(
            cell.number is not None for cell in self.cells if cell.text
        )


def tabulate_runs(runs: Sequence[Record]) -> list[Column]:
    """Return what is known of each run: settings, all that were given too, figures, its end."""
    known: list[Column] = []
    figures = [_figures_of(run) for run in runs]
    for name in FIGURES:
        known.append(_figures(name, [of_run.get(name, ()) for of_run in figures]))
    for name, value in FACTS.items():
        known.append(Column(name, name, [Cell(as_text(value(run))) for run in runs], "fact"))
    wanted = [key.lstrip("+") for key in (*override_keys(runs), *grouping_keys(runs))]
    taken = {column.name for column in known}  # device=cpu, too, which is device.name
    others = dict.fromkeys(f"{key}.name" if key in taken else key for key in wanted)
    keys = [key for key in others if key.removesuffix(".name") not in NAMED]
    return [
        *(_settings(key, runs) for key in SETTINGS),
        *known,
        *(_settings(key, runs) for key in keys if key not in SETTINGS),
    ]


def tabulate_groups(runs: Sequence[Record]) -> list[Column]:
    """Return means and deviations over seeds and folds; no columns if there is but one of each."""
    keys = grouping_keys(runs)
    groups = group_runs([run for run in runs if run.state == "finished"], keys)
    counts = [len(alike.repetitions) for alike in groups]
    if max(counts, default=1) == 1:
        return []
    columns = [_settings(key.lstrip("+"), [alike.runs[0] for alike in groups]) for key in keys]
    columns.append(Column("n", "n", [Cell(str(count), float(count)) for count in counts], "figure"))
    for key in REPEATED_KEYS:
        cells = [_values(alike, key) for alike in groups]
        columns.append(Column(key, f"{SETTINGS[key]}s", cells))
    validation = [alike.accuracies("validation") for alike in groups]
    return [
        *columns,
        _figures("test_accuracy", [alike.accuracies("test") for alike in groups]),
        _figures("validation_accuracy", validation),
        _figures("train_eval_s", [alike.times for alike in groups]),
    ]


def find_constant_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the columns that say the same of all runs, if there are several."""
    several = [column for column in columns if len(column.cells) > 1 and not column.is_empty]
    return [column for column in several if len(set(column.cells)) == 1]


def make_csv_rows(columns: Sequence[Column]) -> list[dict[str, object]]:
    """For report.csv: figures with every digit, and no text that a spreadsheet would take for a formula."""
    cells = zip(*(column.cells for column in columns), strict=True)
    names = [_no_formula(column.name) for column in columns]
    return [dict(zip(names, map(_plain, row, columns), strict=True)) for row in cells]


def format_markdown(columns: Sequence[Column]) -> str:
    """A table in GitHub's Markdown; columns without any value are left out."""
    columns = [column for column in columns if not column.is_empty]
    lines = [
        [escape_markdown(column.heading) for column in columns],
        ["---:" if column.is_numeric else "---" for column in columns],
        *(
            [escape_markdown(cell.text) for cell in row]
            for row in zip(*(column.cells for column in columns), strict=True)
        ),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_text(value: object) -> str:
    """Return an untrusted value as one line of text that is not too long for a cell."""
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
    return Cell(
        as_text(value.removesuffix(".0")), number if abs(number) < 1e300 else None
    )  # which NaN is not


def _figures(name: str, values: Sequence[Sequence[float]]) -> Column:
    """Return the column of a figure, of which each row has one, several to be averaged, or none."""
    heading, form, more_is_better = FIGURES[name]
    means = [statistics.fmean(each) if each else None for each in values]
    cells = [Cell(mean_and_std(each, form), mean) for each, mean in zip(values, means, strict=True)]
    return Column(name, heading, cells, "figure", more_is_better)


def _figures_of(run: Record) -> dict[str, tuple[float]]:
    """Return the figures that a run has; while it is not finished, the best accuracy so far."""
    best_so_far = max(run.column("validation_accuracy"), default=None)
    speeds = run.column("examples_per_s")
    figures = {
        **{name: run.figure(name) for name in PLAIN},
        "validation_accuracy": run.validation_accuracy if run.result else best_so_far,
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


def _values(alike: Group, key: str) -> Cell:
    """Return the values of all that are counted, such as ``0, 1, 2``."""
    cells = sorted(
        (_setting(run, key) for run in alike.repetitions), key=lambda cell: cell.number or 0.0
    )
    return Cell(", ".join(dict.fromkeys(cell.text for cell in cells if cell.text)))


def _device(run: Record) -> str:
    """Such as ``cuda (NVIDIA H100)``."""
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


def _plain(cell: Cell, column: Column) -> object:
    if column.kind == "figure":
        return (
            int(cell.number)
            if cell.number is not None and cell.number.is_integer()
            else cell.number
        )
    return cell.text if cell.number is not None else _no_formula(cell.text)


def _no_formula(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is; underscores inside a word are none of its signs."""
    return re.sub(r"([\\`*\[\]<>|&~$#]|\b_|_\b)", r"\\\1", text)
