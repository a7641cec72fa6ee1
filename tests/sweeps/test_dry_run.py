"""`cnnbench -m --dry-run`: the list of jobs with their times, found with little work."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL

from cnnbench.errors import DataError
from cnnbench.sweeps import dry_run

DRY_RUN = ("-m", *SMALL, "--dry-run")
SWEEP = ("-m", *SMALL, "sweep=mine")
Done = subprocess.CompletedProcess[str]
Calls = list[tuple[Any, ...]]


def record_calls(monkeypatch: pytest.MonkeyPatch, name: str, *, fail: bool = False) -> Calls:
    """Record the arguments of the calls of a function. With `fail` the function raises an error."""
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


def test_missing_data_are_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = record_calls(monkeypatch, "datasets.load_dataset", fail=True)
    done = run_in_process(*DRY_RUN, "seed=0,1,2", folder=tmp_path)
    assert (done.returncode, len(loads)) == (3, 1)
    assert len(re.findall("would fail: There is no network.$", done.stdout, re.MULTILINE)) == 3
    assert done.stdout.splitlines()[-1].endswith("Nothing was started.")


def test_operations_of_a_network_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = record_calls(monkeypatch, "count_flops")
    done = run_in_process(
        *DRY_RUN, "model.widths=[8],[9]", "seed=0,1", "optimizer.lr=0.1,0.2", folder=tmp_path
    )
    assert (done.returncode, len(counts)) == (0, 2), done.stderr


@pytest.mark.parametrize(("max_flops", "batch_size"), [(0.0, 2), (1e11, 16)])
def test_speed_on_a_cpu_is_measured_with_a_part_of_a_large_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_flops: float, batch_size: int
) -> None:
    monkeypatch.setattr(dry_run, "MAX_CPU_FLOPS", max_flops)
    steps = record_calls(monkeypatch, "endless_steps")
    assert run_in_process(*DRY_RUN, folder=tmp_path).returncode == 0
    assert [size for *_, size in steps] == [batch_size]


def test_dry_run_lists_jobs_and_times_and_starts_nothing(tmp_path: Path) -> None:
    done = run_in_process(
        *SWEEP, "seed=0,1", "train.epochs=1000,2000", "--dry-run", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"seed=\d .* ([\d.]+) s  to run$", done.stdout, re.MULTILINE)
    times = [float(seconds) for seconds in found]
    assert len(times) == 4, done.stdout
    # The times are rounded to one or two digits.
    assert times[2] == pytest.approx(2 * times[0], rel=0.2)
    assert "4 jobs in outputs/sweeps/mine. Nothing was started." in done.stdout
    assert not (tmp_path / "outputs").exists()


def test_dry_run_shows_the_states_of_a_begun_sweep(grid: tuple[Path, Done]) -> None:
    sweep, _ = grid
    command = (*SWEEP, "optimizer.lr=0.02,-1", "seed=1,2", "--dry-run")
    done = run_in_process(*command, folder=sweep.parents[2])
    lines = [line for line in done.stdout.splitlines() if line.startswith("#")]
    assert [line.rpartition("  ")[2] for line in lines] == [
        *("finished", "to run"),
        *(["would fail: optimizer.lr=-1 is out of range. It must be above 0."] * 2),
    ]
    assert done.returncode == 2
    # The times are estimated from a finished job.
    assert "as data.test_examples=20," in done.stdout, done.stdout


def test_dry_run_reports_a_finished_job_with_other_values(tmp_path: Path) -> None:
    mine = tmp_path / "experiment" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("# @package _global_\nseed: 5\n")
    sweep = ("--config-dir", str(tmp_path), *SWEEP, "experiment=mine")
    assert run_in_process(*sweep, folder=tmp_path).returncode == 0
    mine.write_text("# @package _global_\nseed: 6\n")
    done = run_in_process(*sweep, "--dry-run", folder=tmp_path)
    assert (
        done.returncode,
        "holds a run with other values: seed=5 instead of 6" in done.stdout,
    ) == (2, True), done


def test_sweep_varies_the_values_of_its_experiment(tmp_path: Path) -> None:
    done = run_in_process(*SWEEP, "experiment=claims/weight_decay", "--dry-run", folder=tmp_path)
    job = r"^#\d+ .*optimizer\.weight_decay=(\S+) seed=(\d) "
    decays_and_seeds = re.findall(job, done.stdout, re.MULTILINE)
    expected = [(decay, seed) for decay in ("0", "0.001") for seed in "012"]
    assert decays_and_seeds == expected, done.stdout
