"""`cnnbench -m --dry-run`: what it does once, so that it answers soon, and how it lists a reproduction."""

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL

from cnnbench.errors import DataError
from cnnbench.sweeps import dry_run

SWEEP = ("-m", *SMALL, "--dry-run")
Calls = list[tuple[Any, ...]]


def record_calls(monkeypatch: pytest.MonkeyPatch, name: str, *, fail: bool = False) -> Calls:
    """Return what a function that the dry run calls is called with."""
    calls: Calls = []
    owner, _, name = name.rpartition(".")
    place = getattr(dry_run, owner) if owner else dry_run
    function = getattr(place, name)

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        if fail:
            raise DataError("There is no network.\nTried: a mirror.")
        return function(*arguments)

    monkeypatch.setattr(place, name, call)
    return calls


def test_data_that_cannot_be_fetched_are_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = record_calls(monkeypatch, "datasets.load", fail=True)
    done = run_in_process(*SWEEP, "seed=0,1,2", folder=tmp_path)
    assert (done.returncode, len(loads)) == (3, 1)
    assert len(re.findall("would fail: There is no network.$", done.stdout, re.MULTILINE)) == 3
    assert done.stdout.splitlines()[-1].endswith("Nothing was started.")


def test_the_arithmetic_of_a_network_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = record_calls(monkeypatch, "count_flops")
    done = run_in_process(
        *SWEEP, "model.widths=[8],[9]", "seed=0,1", "optimizer.lr=0.1,0.2", folder=tmp_path
    )
    assert (done.returncode, len(counts)) == (0, 2), done.stderr


@pytest.mark.parametrize(("most", "batch_size"), [(0.0, 2), (1e11, 16)])
def test_a_cpu_measures_a_part_of_a_batch_that_would_take_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: float, batch_size: int
) -> None:
    monkeypatch.setattr(dry_run, "MAX_CPU_FLOPS", most)
    steps = record_calls(monkeypatch, "endless_steps")
    assert run_in_process(*SWEEP, folder=tmp_path).returncode == 0
    assert [size for *_, size in steps] == [batch_size]
