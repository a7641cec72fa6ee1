"""The page that compares runs."""

import json
import math
import platform
import statistics
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import cnnbench
from cnnbench.config import flatten
from cnnbench.reports.grid import BATCH_SIZE, RATE, Grid, find_grids
from cnnbench.reports.grouping import group_runs, grouping_keys, rank_runs
from cnnbench.reports.page import render_page
from cnnbench.reports.tables import (
    NAMED,
    Column,
    as_text,
    find_constant_columns,
    tabulate_groups,
    tabulate_runs,
)
from cnnbench.reports.terminal_table import count_by_state
from cnnbench.runs.records import Record

__all__ = ["collect_page_data", "render"]

MAX_POINTS = 500  # of a curve: more than a chart has room for
CHOSEN_AT_FIRST = 5
UNIMPORTANT = ("sweep", "model.recipe")  # keys that say nothing that others do not


def render(runs: Sequence[Record], source: str) -> str:
    """Return the page as HTML; `source` says where the runs were found."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # has no types

    runs = rank_runs(runs)
    columns = tabulate_runs(runs)
    constant = find_constant_columns(columns)
    return render_page(
        "report.html.jinja",
        [get_plotlyjs(), "charts.js", "report.js"],
        data=Markup(_json(collect_page_data(runs, columns))),
        title=count_by_state(runs),
        made=datetime.now().astimezone().isoformat(" ", timespec="minutes"),
        host=platform.node(),
        version=cnnbench.__version__,
        source=as_text(source),
        columns=[column for column in columns if not column.is_empty],
        constant=constant,
        folded={column.name for column in constant},
        states=list(dict.fromkeys(run.state for run in runs)),
        chosen=_best_groups(runs),
        labels=[", ".join(settings.values()) for settings in _settings(columns)],
        groups=[column for column in tabulate_groups(runs) if not column.is_empty],
    )


def collect_page_data(runs: Sequence[Record], columns: Sequence[Column]) -> dict[str, Any]:
    """Return what the script shows beside the tables, for JSON: no number is NaN or infinite."""
    keys = grouping_keys(runs)
    alike = [tuple(map(run.plain_value, keys)) for run in runs]
    parts = zip(runs, _settings(columns), _configurations(runs), alike, strict=True)
    found = find_grids(runs)
    return {
        "runs": [
            {
                "group": alike.index(values),
                "settings": settings,
                "curves": _curves(run),
                "config": config,
                "recall": _recall(run),
            }
            for run, settings, config, values in parts
        ],
        "grids": list(map(_heat_map, found, _titles(found, keys))),
    }


def _json(values: Any) -> str:
    """Return JSON that ends no script element, whatever text is in it."""
    return json.dumps(values, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _settings(columns: Sequence[Column]) -> list[dict[str, str]]:
    """Return what tells each run from others, as {"model": "lenet", "optimizer.lr": "lr 0.1"}."""
    settings = [column for column in columns if column.kind == "setting"]
    telling = [column for column in settings if len(set(column.cells)) > 1]
    telling = telling or [column for column in columns if column.name == "model"]
    named: list[dict[str, str]] = [{} for _ in columns[0].cells]
    for column in telling:
        prefix = "" if column.name in NAMED else f"{column.heading.rpartition('.')[2]} "
        for values, cell in zip(named, column.cells, strict=True):
            if cell.text:
                values[column.name] = f"{prefix}{cell.text}"
    return named


def _best_groups(runs: Sequence[Record]) -> list[int]:
    """Return the runs that are shown at first, by number: those of the best groups."""
    groups = group_runs([run for run in runs if run.state == "finished"], grouping_keys(runs))
    return [runs.index(run) for alike in groups[:CHOSEN_AT_FIRST] for run in alike.repetitions]


def _curves(run: Record) -> dict[str, Any]:
    """Return the columns of metrics.csv to draw; of many epochs some, the last among them."""
    step = max(1, math.ceil(len(run.rows) / MAX_POINTS))
    last = len(run.rows)
    places = [place for place in range(1, last + 1) if place % step == 0 or place == last]
    rows = [run.rows[place - 1] for place in places]
    held_out = "validation" if any("validation_accuracy" in row for row in rows) else "test"
    curves: dict[str, Any] = {"held_out": held_out}
    curves["epoch"] = [_rounded(row.get("epoch")) for row in rows]
    for part, name in (("train", "train"), ("held_out", held_out)):
        for quantity in ("loss", "accuracy"):
            values = [_rounded(row.get(f"{name}_{quantity}")) for row in rows]
            curves[f"{part}_{quantity}"] = values
    return curves


def _rounded(number: float | None) -> float | None:
    """Return a number as exactly as a chart can show it, None if it is not finite."""
    return float(f"{number:.5g}") if number is not None and math.isfinite(number) else None


def _configurations(runs: Sequence[Record]) -> list[dict[str, str]]:
    """Return each run's values, as in YAML, of the keys in which configurations differ."""
    configs: list[dict[str, str]] = [{} for _ in runs]
    for run, config in zip(runs, configs, strict=True):
        for key, value in flatten(run.config).items():
            if not key.startswith(UNIMPORTANT):
                config[key] = value if isinstance(value, str) else json.dumps(value, default=str)
    known = [config for config in configs if config]
    keys = dict.fromkeys(key for config in configs for key in config)
    differing = [key for key in keys if len({config.get(key) for config in known}) > 1]
    shown: list[dict[str, str]] = []
    for config in configs:
        keys_here = [key for key in differing if key in config]
        shown.append({as_text(key): as_text(config[key]) for key in keys_here})
    return shown


def _recall(run: Record) -> dict[str, float]:
    """Return the recall of each class, as `cnnbench evaluate` left it; nothing if it did not."""
    classes = run.evaluation.get("classes")
    recall: dict[str, float] = {}
    for each in classes if isinstance(classes, list) else []:
        share: Any = each.get("recall") if isinstance(each, dict) else None
        if type(share) in (int, float) and 0 <= share <= 1:
            recall[as_text(each.get("name", ""))] = share
    return recall


def _titles(found: Sequence[Grid], keys: Sequence[str]) -> list[str]:
    """Return the values in which each grid differs from the others."""
    firsts = [grid.runs[0] for grid in found]
    others = [key for key in keys if key not in (RATE, BATCH_SIZE)]
    telling = [key for key in others if len({run.plain_value(key) for run in firsts}) > 1]
    return [as_text(", ".join(f"{key}={run.value(key)}" for key in telling)) for run in firsts]


def _heat_map(grid: Grid, title: str) -> dict[str, Any]:
    """Return rows and columns to draw; a cell without a figure says what became of its runs."""
    cells: dict[str, list[list[Any]]] = {"means": [], "deviations": [], "counts": [], "states": []}
    for row in grid.cells:
        for values in cells.values():
            values.append([])
        for runs in row:
            accuracies = grid.accuracies(runs)
            mean = statistics.fmean(accuracies) if accuracies else None
            deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else None
            cells["means"][-1].append(_rounded(mean))
            cells["deviations"][-1].append(_rounded(deviation))
            cells["counts"][-1].append(len(accuracies))
            cells["states"][-1].append(", ".join(dict.fromkeys(run.state for run in runs)))
    rates, sizes = (
        [f"{rate:.12g}" for rate in grid.rates],
        [f"{size:.12g}" for size in grid.batch_sizes],
    )
    return {"title": title, "part": grid.part, "rates": rates, "batch_sizes": sizes, **cells}
