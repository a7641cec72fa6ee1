"""Sweeps that run to the end: their jobs, their table and their files."""

import csv
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.compare_runs import find_differences
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, find_job

Done = subprocess.CompletedProcess[str]
SWEEP = ("-m", *SMALL, "sweep=mine")


def read_table(sweep: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((sweep / "sweep.csv").read_text().splitlines()))


def test_printed_best_command_repeats_the_best_job(grid: tuple[Path, Done], tmp_path: Path) -> None:
    sweep, done = grid
    (line,) = re.findall(r"^the best: cnnbench (.*)$", done.stdout, re.MULTILINE)
    again = run_in_process(*line.replace("'", "").split(), "hydra.run.dir=again", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    varied = [word for word in line.split() if word.startswith(("optimizer.lr", "seed"))]
    assert find_differences(find_job(sweep, *varied), tmp_path / "again") == []


def test_each_job_but_the_first_logs_the_progress(grid: tuple[Path, Done]) -> None:
    _, done = grid
    assert done.stdout.startswith("Checking 6 jobs ...\n")
    assert re.findall(r"^(\d of 6), about \d+ s left$", done.stdout, re.MULTILINE) == [
        f"{number} of 6" for number in range(2, 7)
    ]


def test_failed_jobs_do_not_stop_others_and_are_listed_at_the_end(grid: tuple[Path, Done]) -> None:
    sweep, done = grid
    assert done.returncode == 4
    assert "6 runs: 4 finished, 2 failed" in done.stdout
    lines = done.stdout.partition("failed: optimizer.lr=1e+30 seed=1\n")[2].splitlines()
    assert "The training loss became" in lines[0]
    place = find_job(sweep, "optimizer.lr=1e+30", "seed=1").relative_to(sweep.parents[2])
    assert f"  more: {place}/status.json" in lines[:5]
    status = json.loads((sweep.parents[2] / place / "status.json").read_text())
    assert "Traceback" in status["traceback"]


def test_csv_has_a_row_for_each_job_with_the_best_first(grid: tuple[Path, Done]) -> None:
    sweep, _ = grid
    rows = read_table(sweep)
    accuracies = [float(row["validation_accuracy"] or 0) for row in rows]
    assert (len(rows), accuracies) == (6, sorted(accuracies, reverse=True))
    assert [(row["status"], row["optimizer.lr"]) for row in rows[4:]] == [("failed", "1e+30")] * 2


def test_report_repeats_the_table_and_the_csv(grid: tuple[Path, Done]) -> None:
    sweep, done = grid
    table = (sweep / "sweep.csv").read_bytes()
    (sweep / "sweep.csv").unlink()
    again = run_in_process("report", "outputs/sweeps/mine", folder=sweep.parents[2])
    written = "".join(f"outputs/sweeps/mine/report.{kind}\n" for kind in ("html", "csv", "md"))
    assert (again.returncode, again.stdout) == (0, done.stdout.partition("\n\n")[2] + written), (
        again.stderr
    )
    assert (sweep / "sweep.csv").read_bytes() == table


@pytest.mark.slow
def test_changed_sweep_adds_new_jobs_and_keeps_finished_ones(tmp_path: Path, mine: Path) -> None:
    assert run_in_process(*SWEEP, "seed=0,1", folder=tmp_path).returncode == 0
    before = (find_job(mine, "seed=1") / "status.json").read_bytes()
    done = run_in_process(*SWEEP, "seed=1,2", folder=tmp_path)
    assert "1 of 2 jobs finished already." in done.stdout
    assert "3 runs: 3 finished" in done.stdout
    assert (find_job(mine, "seed=1") / "status.json").read_bytes() == before


@pytest.mark.parametrize("flag", [["--dry-run"], ["--jobs-file", "jobs"]])
def test_flags_of_sweeps_need_multirun(tmp_path: Path, flag: Sequence[str]) -> None:
    done = run_in_process(*SMALL, *flag, folder=tmp_path)
    assert (done.returncode, "are for a sweep: add -m" in done.stderr) == (2, True), done.stderr


def test_folds_count_as_repetitions(tmp_path: Path) -> None:
    done = run_in_process(*SWEEP, "data.folds=3", "data.fold=0,1,2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = re.findall(
        r"^ *([\d.]+) ± ([\d.]+) +[\d.]+ ± [\d.]+ +3 +2 ", done.stdout, re.MULTILINE
    )
    assert "mean ± standard deviation over folds" in done.stdout
    assert float(row[0]) > 0


def test_directories_named_by_job_number_are_found_again(tmp_path: Path, mine: Path) -> None:
    sweep = (*SWEEP, "seed=0,1", "hydra.sweep.subdir=${hydra.job.num}")
    assert run_in_process(*sweep, folder=tmp_path).returncode == 0
    done = run_in_process(*sweep, folder=tmp_path)
    assert (done.returncode, "2 runs: 2 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert done.stdout.count("is finished with a test accuracy of") == 2
    assert sorted(path.parent.name for path in mine.glob("*/result.json")) == ["0", "1"]
