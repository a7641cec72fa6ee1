"""`cnnbench report`: runs compared, in a table on the terminal, as a page, as CSV and as Markdown."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from cnnbench.analysis.format import printable
from cnnbench.errors import explain_write_error
from cnnbench.reports.comparison import how_many, print_comparison, shared
from cnnbench.reports.groups import ranked
from cnnbench.reports.page import render
from cnnbench.reports.table import (
    Column,
    as_text,
    columns_of_groups,
    columns_of_runs,
    csv_rows,
    escaped,
    markdown,
)
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.records import Record

__all__ = ["run"]

PAGE, TABLE, MARKDOWN = "report.html", "report.csv", "report.md"


def run(arguments: list[str]) -> None:
    """Print how runs compare, and write it.

    Raises:
        ConfigError: a directory holds no run, or the place for the report cannot be written to.
        OSError: a directory cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="cnnbench report",
        description="Compare runs: a table by validation accuracy with mean and standard deviation over seeds and "
        f"folds, and the same as a page ({PAGE}), as {TABLE} and as {MARKDOWN}.",
        epilog="Example: cnnbench report outputs/sweeps/rates",
    )
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="runs, sweeps, or folders of them")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write (default: DIR if it is but one)")
    options = parser.parse_args(arguments)
    runs = print_comparison(options.directories)
    output = options.output or (options.directories[0] if len(options.directories) == 1 else Path())
    _write(runs, output, shlex.join(map(str, options.directories)))


def _write(runs: Sequence[Record], output: Path, source: str) -> None:
    runs = ranked(runs)
    columns = columns_of_runs(runs)
    try:
        folder = RunDirectory(output)
        folder.write_text(PAGE, render(runs, source))
        folder.write_rows(TABLE, csv_rows(columns))
        folder.write_text(MARKDOWN, _in_markdown(runs, columns))
    except OSError as error:
        raise explain_write_error(error.filename or output, error, "--output DIR") from error
    for name in (PAGE, TABLE, MARKDOWN):
        print(printable(os.path.relpath(output / name)))


def _in_markdown(runs: Sequence[Record], columns: Sequence[Column]) -> str:
    groups = columns_of_groups(runs)
    parts = [f"# {how_many(runs)}", f"All with {escaped(as_text(shared(runs)))}" if shared(runs) else ""]
    parts += ["## Mean ± standard deviation over seeds", markdown(groups)] if groups else []
    parts += ["## Runs", markdown(columns)]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"
