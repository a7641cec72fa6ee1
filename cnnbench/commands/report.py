"""`cnnbench report`: compare runs in a table, on a page, as CSV and as Markdown."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from cnnbench.commands import write_results
from cnnbench.reports.grouping import rank_runs
from cnnbench.reports.page.report import render_report
from cnnbench.reports.tables import (
    Column,
    escape_markdown,
    find_constant_columns,
    format_markdown,
    make_csv_rows,
    tabulate_groups,
    tabulate_runs,
)
from cnnbench.reports.terminal_table import count_by_state, print_comparison
from cnnbench.runs.records import Record

__all__ = ["run"]

PAGE, TABLE, MARKDOWN = "report.html", "report.csv", "report.md"


def run(options: argparse.Namespace) -> None:
    """Print the comparison of runs and write the report.

    Raises:
        ConfigError: a directory holds no run, or the report cannot be written.
        OSError: a directory cannot be read.
    """
    runs = rank_runs(print_comparison(options.directories))
    output = options.output or (options.directories[0] if len(options.directories) == 1 else Path())
    columns = tabulate_runs(runs)
    with write_results(output, PAGE, TABLE, MARKDOWN) as folder:
        folder.write_text(PAGE, render_report(runs, shlex.join(map(str, options.directories))))
        folder.write_rows(TABLE, make_csv_rows(columns))
        folder.write_text(MARKDOWN, _format_markdown(runs, columns))


def _format_markdown(runs: Sequence[Record], columns: Sequence[Column]) -> str:
    groups, constant = tabulate_groups(runs), find_constant_columns(columns)
    parts = [f"# {count_by_state(runs)}"]
    if constant:
        same = (f"{column.heading} {column.cells[0].text}" for column in constant)
        parts.append(f"The same in all runs: {escape_markdown(', '.join(same))}")
    if groups:
        parts += ["## Mean ± standard deviation over seeds", format_markdown(groups)]
    parts += ["## Runs", format_markdown([column for column in columns if column not in constant])]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
