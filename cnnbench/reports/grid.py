"""Grids of runs that differ only in learning rate and batch size, with their mean accuracies."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.config import IGNORED_KEYS, REPEATED_KEYS, flatten, is_below
from cnnbench.reports.grouping import RunGroup
from cnnbench.runs.records import Record

__all__ = ["BATCH_SIZE", "RATE", "Grid", "find_grids"]

RATE, BATCH_SIZE = "optimizer.lr", "train.batch_size"


@dataclass(frozen=True)
class Grid:
    """The runs of a grid: `cells[i][j]` has those with batch_sizes[i] and rates[j].

    A cell has no run, one run, or repetitions of a run.
    """

    rates: list[float]
    batch_sizes: list[float]
    cells: list[list[list[Record]]]

    @property
    def runs(self) -> list[Record]:
        return [run for row in self.cells for cell in row for run in cell]

    @property
    def part(self) -> str:
        """Return the part that accuracies are measured on.

        It is "validation" if a run has a validation set, otherwise "test".
        """
        is_validated = any(run.validation_accuracy is not None for run in self.runs)
        return "validation" if is_validated else "test"

    def accuracies(self, cell: Sequence[Record]) -> list[float]:
        """Return the accuracies of the finished runs of a cell."""
        return RunGroup((), [run for run in cell if run.state == "finished"]).accuracies(self.part)

    @property
    def best(self) -> float:
        """Return the highest mean accuracy of a cell, 0 if no cell has one."""
        cells = [self.accuracies(cell) for row in self.cells for cell in row]
        return max((statistics.fmean(cell) for cell in cells if cell), default=0.0)


def find_grids(runs: Sequence[Record]) -> list[Grid]:
    """Return the grids among the runs, the best first.

    A grid has at least two learning rates, two batch sizes and one finished run.
    """
    alike: dict[str, list[tuple[float, float, Record]]] = defaultdict(list)
    for run in runs:
        values = flatten(run.config)
        rate, batch_size = values.pop(RATE, None), values.pop(BATCH_SIZE, None)
        if _is_positive(rate) and _is_positive(batch_size):
            others = [key for key in values if not is_below(key, (*REPEATED_KEYS, *IGNORED_KEYS))]
            key = repr(sorted((key, repr(values[key])) for key in others))
            alike[key].append((float(rate), float(batch_size), run))
    grids = [_make_grid(members) for members in alike.values()]
    grids = [grid for grid in grids if min(len(grid.rates), len(grid.batch_sizes)) > 1]
    return sorted([grid for grid in grids if grid.best > 0], key=lambda grid: -grid.best)


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < 1e300


def _make_grid(members: Sequence[tuple[float, float, Record]]) -> Grid:
    rates = sorted({rate for rate, _, _ in members})
    batch_sizes = sorted({batch_size for _, batch_size, _ in members})
    cells: list[list[list[Record]]] = [[[] for _ in rates] for _ in batch_sizes]
    for rate, batch_size, run in members:
        cells[batch_sizes.index(batch_size)][rates.index(rate)].append(run)
    return Grid(rates, batch_sizes, cells)
