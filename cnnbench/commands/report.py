"""`cnnbench report`: a table that compares runs, and a CSV of each sweep."""

from collections.abc import Sequence
from pathlib import Path

from cnnbench.reports.comparison import as_rows, compare
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.records import Record, read_records
from cnnbench.runs.sweep import recorded_jobs

__all__ = ["run"]

CSV = "sweep.csv"


def run(directories: Sequence[Path]) -> list[Record]:
    """Print how the runs in these run or sweep directories compare; write sweep.csv into those of sweeps.

    Raises:
        ConfigError: a directory holds no run.
        OSError: sweep.csv cannot be written.
    """
    found: dict[Path, Record] = {}  # a run that is given twice is one
    for directory in directories:
        runs = read_records(directory)
        if recorded_jobs(directory):
            RunDirectory(directory).write_rows(CSV, as_rows(runs))
        found |= {each.path.resolve(): each for each in runs}
    print(compare(list(found.values())))
    return list(found.values())
