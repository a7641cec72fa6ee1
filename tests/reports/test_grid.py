"""Grids of learning rates and batch sizes."""

from pathlib import Path
from typing import Any

import pytest
from helpers.fake_runs import make_run

from cnnbench.reports.grid import Grid, find_grids
from cnnbench.runs.records import read_records


def make(folder: Path, *runs: tuple[float, int, float], **others: Any) -> None:
    for lr, batch_size, accuracy in runs:
        best = {"validation_accuracy": accuracy}
        values = {"result": {"best": best, "test_accuracy": 0.01}} | others
        number = len(list(folder.iterdir()))
        make_run(folder / str(number), lr=lr, batch_size=batch_size, **values)


def means(grid: Grid) -> list[list[list[float]]]:
    return [[grid.accuracies(cell) for cell in row] for row in grid.cells]


SQUARE = ((0.1, 64, 0.1), (0.1, 256, 0.2), (0.01, 64, 0.3), (0.01, 256, 0.4))


def test_grid_has_ascending_rates_and_batch_sizes(tmp_path: Path) -> None:
    make(tmp_path, *SQUARE)
    (grid,) = find_grids(read_records(tmp_path))
    assert (grid.rates, grid.batch_sizes) == ([0.01, 0.1], [64, 256])
    assert means(grid) == [[[0.3], [0.1]], [[0.4], [0.2]]]


@pytest.mark.parametrize("runs", [SQUARE[:1], SQUARE[:2], SQUARE[::2]])
def test_grid_needs_two_rates_and_two_batch_sizes(
    tmp_path: Path, runs: tuple[tuple[float, int, float], ...]
) -> None:
    make(tmp_path, *runs)
    assert find_grids(read_records(tmp_path)) == []


def test_grid_cell_has_all_seeds(tmp_path: Path) -> None:
    make(tmp_path, *SQUARE)
    make(tmp_path, (0.1, 64, 0.7), seed=1)
    (grid,) = find_grids(read_records(tmp_path))
    assert sorted(means(grid)[0][1]) == [0.1, 0.7]


def test_grids_are_separated_by_other_keys_and_sorted_by_accuracy(tmp_path: Path) -> None:
    make(tmp_path, *SQUARE)
    make(tmp_path, *((lr, size, accuracy + 0.5) for lr, size, accuracy in SQUARE), model="mlp")
    make(tmp_path, (0.5, 64, 0.9), model="nin")
    found = find_grids(read_records(tmp_path))
    assert [grid.runs[0].value("model") for grid in found] == ["mlp", "lenet"]
    assert [grid.best for grid in found] == pytest.approx([0.9, 0.4])


def test_grid_cell_may_be_empty_or_have_failed_run(tmp_path: Path) -> None:
    make(tmp_path, *SQUARE[:3])
    (grid,) = find_grids(read_records(tmp_path))
    assert grid.cells[1][0] == []
    make_run(tmp_path / "failed", lr=0.01, batch_size=256, state="failed")
    (grid,) = find_grids(read_records(tmp_path))
    assert [run.state for run in grid.cells[1][0]] == ["failed"]
    assert means(grid)[1][0] == []


def test_grid_needs_a_finished_run(tmp_path: Path) -> None:
    make(tmp_path, *SQUARE, state="failed", result={})
    assert find_grids(read_records(tmp_path)) == []


def test_grid_uses_test_accuracy_without_validation_set(tmp_path: Path) -> None:
    make(tmp_path, *SQUARE, result={"best": None, "test_accuracy": 0.25})
    (grid,) = find_grids(read_records(tmp_path))
    assert (grid.part, grid.best) == ("test", 0.25)


@pytest.mark.parametrize("value", ["'x'", "[1]", ".nan", "-1", "1" * 400])
def test_grid_skips_runs_with_invalid_rate(tmp_path: Path, value: str) -> None:
    make(tmp_path, *SQUARE)
    path = make_run(tmp_path / "odd") / "config.yaml"
    path.write_text(path.read_text().replace("lr: 0.1", f"lr: {value}"))
    (grid,) = find_grids(read_records(tmp_path))
    assert len(grid.runs) == 4
