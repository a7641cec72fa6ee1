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
from cnnbench.reports.grouping import group_runs, grouping_keys, is_varying, rank_runs
from cnnbench.reports.page import render_page
from cnnbench.reports.tables import (
    NAMED,
    SETTINGS,
    Column,
    as_text,
    find_constant_columns,
    tabulate_groups,
    tabulate_runs,
)
from cnnbench.reports.terminal_table import count_by_state
from cnnbench.runs.records import Record

__all__ = ["collect_page_data", "render_report"]

MAX_POINTS = 500  # points of a curve: a chart has no room for more
NUM_PRESELECTED = 5  # groups that are chosen when the page opens
REDUNDANT_KEYS = ("sweep", "model.recipe")  # other keys say the same


def render_report(runs: Sequence[Record], source: str) -> str:
    """Return the page as HTML; `source` says where the runs were found."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # has no types

    runs = rank_runs(runs)
    columns, groups = tabulate_runs(runs), tabulate_groups(runs)
    constant = find_constant_columns(columns)
    labels = [", ".join(settings.values()) for settings in _settings(columns)]
    data = json.dumps(collect_page_data(runs, columns), allow_nan=False, separators=(",", ":"))
    return render_page(
        "report.html.jinja",
        [get_plotlyjs(), "charts.js", "report.js"],
        data=Markup(data.replace("<", "\\u003c")),  # no text can end the script element
        title=count_by_state(runs),
        made=datetime.now().astimezone().isoformat(" ", timespec="minutes"),
        host=platform.node(),
        version=cnnbench.__version__,
        source=as_text(source),
        columns=_order(columns),
        constant=constant,
        folded={column.name for column in constant},
        states=list(dict.fromkeys(run.state for run in runs)),
        chosen=_preselect_runs(runs),
        labels=labels,
        groups=[column for column in groups if not column.is_empty],
    )


def _order(columns: Sequence[Column]) -> list[Column]:
    """Return the columns to show: after the settings, whether and why a run failed."""
    places = {**dict.fromkeys(SETTINGS, 0), "status": 1, "error": 1}
    shown = [column for column in columns if not column.is_empty]
    return sorted(shown, key=lambda column: places.get(column.name, 2))


def collect_page_data(runs: Sequence[Record], columns: Sequence[Column]) -> dict[str, Any]:
    """Return the values that the script draws, for JSON: no number is NaN or infinite.

    Runs with the same number as "group" differ only in seed and fold.
    """
    keys = grouping_keys(runs)
    groups = [tuple(map(run.plain_value, keys)) for run in runs]
    parts = zip(runs, _settings(columns), _configurations(runs), groups, strict=True)
    entries = []
    for run, settings, config, group in parts:
        entry = {
            "group": groups.index(group),
            "settings": settings,
            "curves": _curves(run),
            "config": config,
            "recall": _recall(run),
        }
        entries.append(entry)
    grids = find_grids(runs)
    return {"runs": entries, "grids": list(map(_heat_map, grids, _titles(grids, keys)))}


def _settings(columns: Sequence[Column]) -> list[dict[str, str]]:
    """Return the settings in which each run differs from others.

    An example is {"model": "lenet", "optimizer.lr": "lr 0.1"}.
    """
    settings = [column for column in columns if column.kind == "setting"]
    varying = [column for column in settings if len(set(column.cells)) > 1]
    varying = varying or [column for column in columns if column.name == "model"]
    by_run: list[dict[str, str]] = [{} for _ in columns[0].cells]
    for column in varying:
        prefix = "" if column.name in NAMED else f"{column.heading.rpartition('.')[2]} "
        for values, cell in zip(by_run, column.cells, strict=True):
            if cell.text:
                values[column.name] = f"{prefix}{cell.text}"
    return by_run


def _preselect_runs(runs: Sequence[Record]) -> list[int]:
    """Return the numbers of the runs that are chosen at first: the runs of the best groups."""
    finished = [run for run in runs if run.state == "finished"]
    numbers = []
    for group in group_runs(finished, grouping_keys(runs))[:NUM_PRESELECTED]:
        numbers += [runs.index(run) for run in group.repetitions]
    return numbers


def _curves(run: Record) -> dict[str, Any]:
    """Return the columns of metrics.csv to draw, at `MAX_POINTS` epochs or fewer.

    The last epoch is always among them.
    """
    step = max(1, math.ceil(len(run.rows) / MAX_POINTS))
    last = len(run.rows)
    places = [place for place in range(1, last + 1) if place % step == 0 or place == last]
    rows = [run.rows[place - 1] for place in places]
    is_validated = any("validation_accuracy" in row for row in rows)
    eval_part = "validation" if is_validated else "test"
    curves: dict[str, Any] = {"eval_part": eval_part}
    curves["epoch"] = [_round(row.get("epoch")) for row in rows]
    for name, part in (("train", "train"), ("eval", eval_part)):
        for quantity in ("loss", "accuracy"):
            values = [_round(row.get(f"{part}_{quantity}")) for row in rows]
            curves[f"{name}_{quantity}"] = values
    return curves


def _round(number: float | None) -> float | None:
    """Return a number with the digits that a chart can show, None if it is not finite."""
    return float(f"{number:.5g}") if number is not None and math.isfinite(number) else None


def _configurations(runs: Sequence[Record]) -> list[dict[str, str]]:
    """Return for each run the values, as in YAML, of the keys in which configurations differ."""
    configs: list[dict[str, str]] = [{} for _ in runs]
    for run, config in zip(runs, configs, strict=True):
        for key, value in flatten(run.config).items():
            if not key.startswith(REDUNDANT_KEYS):
                config[key] = value if isinstance(value, str) else json.dumps(value, default=str)
    known = [config for config in configs if config]
    keys = dict.fromkeys(key for config in configs for key in config)
    varying = []
    for key in keys:
        if len({config.get(key) for config in known}) > 1:
            varying.append(key)
    shown: list[dict[str, str]] = []
    for config in configs:
        own_keys = [key for key in varying if key in config]
        shown.append({as_text(key): as_text(config[key]) for key in own_keys})
    return shown


def _recall(run: Record) -> dict[str, float]:
    """Return the recall of each class that `cnnbench evaluate` measured, nothing if it did not."""
    classes = run.evaluation.get("classes")
    recall: dict[str, float] = {}
    for entry in classes if isinstance(classes, list) else []:
        share: Any = entry.get("recall") if isinstance(entry, dict) else None
        if type(share) in (int, float) and 0 <= share <= 1:
            recall[as_text(entry.get("name", ""))] = share
    return recall


def _titles(grids: Sequence[Grid], keys: Sequence[str]) -> list[str]:
    """Return the settings in which each grid differs from the others."""
    runs = [grid.runs[0] for grid in grids]
    others = [key for key in keys if key not in (RATE, BATCH_SIZE)]
    varying = [key for key in others if is_varying(key, runs)]
    titles = []
    for run in runs:
        titles.append(as_text(", ".join(f"{key}={run.value(key)}" for key in varying)))
    return titles


def _heat_map(grid: Grid, title: str) -> dict[str, Any]:
    """Return the values of a heat map. A cell without a mean has the states of its runs."""
    cells: dict[str, list[list[Any]]] = {"means": [], "stds": [], "counts": [], "states": []}
    for row in grid.cells:
        for values in cells.values():
            values.append([])
        for runs in row:
            accuracies = grid.accuracies(runs)
            mean = statistics.fmean(accuracies) if accuracies else None
            std = statistics.stdev(accuracies) if len(accuracies) > 1 else None
            cells["means"][-1].append(_round(mean))
            cells["stds"][-1].append(_round(std))
            cells["counts"][-1].append(len(accuracies))
            cells["states"][-1].append(", ".join(dict.fromkeys(run.state for run in runs)))
    rates = [f"{rate:.12g}" for rate in grid.rates]
    sizes = [f"{size:.12g}" for size in grid.batch_sizes]
    return {"title": title, "part": grid.part, "rates": rates, "batch_sizes": sizes, **cells}
