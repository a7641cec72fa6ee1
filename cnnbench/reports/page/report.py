"""The page that compares runs."""

import json
import math
import platform
import statistics
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import cnnbench
from cnnbench.config import flatten
from cnnbench.reports.comparison import how_many, shared
from cnnbench.reports.grid import BATCH_SIZE, RATE, Grid, grids
from cnnbench.reports.groups import distinguishing, group, ranked
from cnnbench.reports.page import render_page
from cnnbench.reports.table import NAMED, Column, as_text, columns_of_groups, columns_of_runs
from cnnbench.runs.records import Record

__all__ = ["data_of", "render"]

MOST_POINTS = 500  # of a curve: more than a chart has room for
CHOSEN_AT_FIRST = 5
UNIMPORTANT = ("sweep", "model.recipe")  # keys that say nothing that others do not


def render(runs: Sequence[Record], source: str) -> str:
    """Return the page as HTML; `source` says where the runs were found."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    runs = ranked(runs)
    columns = columns_of_runs(runs)
    return render_page(
        "report.html.jinja",
        [get_plotlyjs(), "charts.js", "report.js"],
        data=Markup(_json(data_of(runs, columns))),
        title=how_many(runs),
        shared=as_text(shared(runs)),
        made=datetime.now().astimezone().isoformat(" ", timespec="minutes"),
        host=platform.node(),
        version=cnnbench.__version__,
        source=as_text(source),
        columns=[column for column in columns if not column.is_empty],
        states=list(dict.fromkeys(run.state for run in runs)),
        chosen=_best_of_groups(runs),
        labels=[", ".join(settings.values()) for settings in _settings(columns)],
        groups=[column for column in columns_of_groups(runs) if not column.is_empty],
    )


def data_of(runs: Sequence[Record], columns: Sequence[Column]) -> dict[str, Any]:
    """What the script shows beside the tables: plain values for JSON, none of them NaN or infinite."""
    return {
        "runs": [
            {
                "settings": settings,
                "curves": _curves(run),
                "config": config,
                "recall": dict(_recall(run)),
            }
            for run, settings, config in zip(
                runs, _settings(columns), _configurations(runs), strict=True
            )
        ],
        "grids": [
            _heat_map(grid, title) for grid, title in _titled(grids(runs), distinguishing(runs))
        ],
    }


def _json(values: Any) -> str:
    """JSON that ends no script element, whatever text is in it."""
    return json.dumps(values, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _settings(columns: Sequence[Column]) -> list[dict[str, str]]:
    """Of each run, what tells it from others, such as ``{"model": "lenet", "optimizer.lr": "lr 0.1"}``."""
    telling = [
        column for column in columns if column.kind == "setting" and len(set(column.cells)) > 1
    ]
    telling = telling or [column for column in columns if column.name == "model"]
    return [
        {column.name: _named(column, number) for column in telling if column.cells[number].text}
        for number in range(len(columns[0].cells))
    ]


def _named(column: Column, number: int) -> str:
    text = column.cells[number].text
    return text if column.name in NAMED else f"{column.heading.rpartition('.')[2]} {text}"


def _best_of_groups(runs: Sequence[Record]) -> list[int]:
    """The numbers of the runs that are shown at first: the best of each of the best groups."""
    groups = group([run for run in runs if run.state == "finished"], distinguishing(runs))
    return [runs.index(ranked(each.runs)[0]) for each in groups[:CHOSEN_AT_FIRST]]


def _curves(run: Record) -> dict[str, Any]:
    """The columns of metrics.csv that are drawn; of very many epochs some, the last among them."""
    step = max(1, math.ceil(len(run.rows) / MOST_POINTS))
    rows = run.rows[::-1][::step][::-1]
    held_out = "validation" if any("validation_accuracy" in row for row in rows) else "test"
    return {
        "held_out": held_out,
        "epoch": [_rounded(row.get("epoch")) for row in rows],
        **{
            f"{part}_{quantity}": [_rounded(row.get(f"{name}_{quantity}")) for row in rows]
            for part, name in (("train", "train"), ("held_out", held_out))
            for quantity in ("loss", "accuracy")
        },
    }


def _rounded(number: float | None) -> float | None:
    """As exact as a chart can show."""
    return float(f"{number:.5g}") if number is not None and math.isfinite(number) else None


def _configurations(runs: Sequence[Record]) -> list[dict[str, str]]:
    """Of each run, the values of the keys in which configurations differ."""
    configs = [
        {key: _as_given(value) for key, value in flatten(run.config).items()} for run in runs
    ]
    known = [config for config in configs if config]
    keys = dict.fromkeys(
        key for config in configs for key in config if not key.startswith(UNIMPORTANT)
    )
    differing = [key for key in keys if len({config.get(key) for config in known}) > 1]
    return [{as_text(key): config[key] for key in differing if key in config} for config in configs]


def _as_given(value: Any) -> str:
    """A value of a configuration as YAML has it."""
    return as_text(value if isinstance(value, str) else json.dumps(value, default=str))


def _recall(run: Record) -> Iterator[tuple[str, float]]:
    """Of each class, as `cnnbench evaluate` left it; nothing if it did not."""
    classes = run.evaluation.get("classes")
    for each in classes if isinstance(classes, list) else []:
        if (
            isinstance(each, dict)
            and type(each.get("recall")) in (int, float)
            and 0 <= each["recall"] <= 1
        ):
            yield as_text(each.get("name", "")), each["recall"]


def _titled(found: Sequence[Grid], keys: Sequence[str]) -> list[tuple[Grid, str]]:
    """Each with the values in which it differs from the others."""
    firsts = [grid.runs[0] for grid in found]
    keys = [
        key
        for key in keys
        if key not in (RATE, BATCH_SIZE) and len({run.plain_value(key) for run in firsts}) > 1
    ]
    titles = [", ".join(f"{key}={run.value(key)}" for key in keys) for run in firsts]
    return list(zip(found, map(as_text, titles), strict=True))


def _heat_map(grid: Grid, title: str) -> dict[str, Any]:
    """Rows and columns as they are drawn; a cell without a figure says what became of its runs."""
    cells = [[grid.accuracies(cell) for cell in row] for row in grid.cells]
    states = [
        [", ".join(dict.fromkeys(run.state for run in cell)) for cell in row] for row in grid.cells
    ]
    return {
        "title": title,
        "part": grid.part,
        "rates": [f"{rate:.12g}" for rate in grid.rates],
        "batch_sizes": [f"{size:.12g}" for size in grid.batch_sizes],
        "means": [
            [_rounded(statistics.fmean(cell)) if cell else None for cell in row] for row in cells
        ],
        "deviations": [
            [_rounded(statistics.stdev(cell)) if len(cell) > 1 else None for cell in row]
            for row in cells
        ],
        "counts": [[len(cell) for cell in row] for row in cells],
        "states": states,
    }
