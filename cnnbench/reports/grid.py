"""Runs that differ in learning rate and batch size alone, and how accurate each pair of them was on average."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench.reports.groups import NO_MATTER, REPEATS, Group, flat
from cnnbench.runs.records import Record

__all__ = ["BATCH_SIZE", "RATE", "Grid", "grids"]

RATE, BATCH_SIZE = "optimizer.lr", "train.batch_size"


@dataclass(frozen=True)
class Grid:
    """`cells[i][j]` are the runs with batch_sizes[i] and rates[j]: none, one, or repetitions."""

    rates: list[float]
    batch_sizes: list[float]
    cells: list[list[list[Record]]]

    @property
    def runs(self) -> list[Record]:
        return [run for row in self.cells for cell in row for run in cell]

    @property
    def part(self) -> str:
        """What accuracies are of, validation or, if nothing was held out, test."""
        return "validation" if any(run.validation_accuracy is not None for run in self.runs) else "test"

    def accuracies(self, cell: Sequence[Record]) -> list[float]:
        return Group((), [run for run in cell if run.state == "finished"]).accuracies(self.part)

    @property
    def best(self) -> float:
        """The highest mean of a cell."""
        cells = [self.accuracies(cell) for row in self.cells for cell in row]
        return max((statistics.fmean(cell) for cell in cells if cell), default=0.0)


def grids(runs: Sequence[Record]) -> list[Grid]:
    """All with at least two rates, two batch sizes and a finished run, the one with the best pair first."""
    alike: dict[tuple[str, ...], list[tuple[float, float, Record]]] = defaultdict(list)
    for run in runs:
        values = dict(flat(run.config))
        rate, batch_size = values.pop(RATE, None), values.pop(BATCH_SIZE, None)
        if all(isinstance(value, (int, float)) and 0 < value < 1e300 for value in (rate, batch_size)):
            others = [f"{key}={value!r}" for key, value in values.items() if not key.startswith((*REPEATS, *NO_MATTER))]
            alike[tuple(sorted(others))].append((float(rate), float(batch_size), run))
    found = [_grid(members) for members in alike.values()]
    found = [each for each in found if min(len(each.rates), len(each.batch_sizes)) > 1 and each.best > 0]
    return sorted(found, key=lambda each: -each.best)


def _grid(members: Sequence[tuple[float, float, Record]]) -> Grid:
    rates = sorted({rate for rate, _, _ in members})
    batch_sizes = sorted({batch_size for _, batch_size, _ in members})
    cells: list[list[list[Record]]] = [[[] for _ in rates] for _ in batch_sizes]
    for rate, batch_size, run in members:
        cells[batch_sizes.index(batch_size)][rates.index(rate)].append(run)
    return Grid(rates, batch_sizes, cells)
