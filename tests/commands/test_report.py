"""`cnnbench report`: the files that it writes, its output, and errors."""

import csv
import json
import os
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.fake_runs import make_grid, make_run

FILES = ["report.csv", "report.html", "report.md"]


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("report."))


def test_report_on_one_folder_is_written_into_it(within: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "outputs" / "lenet" / "1", lr=0.1)
    make_run(tmp_path / "outputs" / "sweeps" / "mine" / "job", lr=0.2)
    done = within("report", "outputs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 runs: 2 finished\n")
    assert done.stdout.splitlines()[-3:] == [
        "outputs/report.html",
        "outputs/report.csv",
        "outputs/report.md",
    ]
    assert written(tmp_path / "outputs") == FILES
    assert written(tmp_path) == []


@pytest.mark.parametrize("place", ["", "site/today/"])
def test_report_on_several_folders_is_written_here_or_to_output(
    within: Command, tmp_path: Path, place: str
) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / name / "run")
    done = within("report", "a", "b", *(["--output", place] if place else []))
    assert (done.returncode, written(tmp_path / place)) == (0, FILES), done.stderr
    kinds = ("html", "csv", "md")
    assert done.stdout.splitlines()[-3:] == [f"{place}report.{kind}" for kind in kinds]


def test_unwritable_output_is_reported(within: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    done = within("report", "run", "--output", "file")
    assert done.returncode == 2
    message = "file cannot be written: File exists. Name another place: --output DIR."
    assert done.stderr == f"cnnbench: {message}\n"


@pytest.mark.parametrize("name", ["empty", "nothing", "file"])
def test_report_without_runs_is_an_error(within: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    done = within("report", name)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)
    assert "Give run or sweep directories, or a folder of them" in done.stderr
    assert written(tmp_path) + written(tmp_path / "empty") == []


def test_report_without_arguments_is_an_error(within: Command) -> None:
    done = within("report")
    message = "cnnbench: Name a run, a sweep, or a folder of them: cnnbench report DIR ...\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_run_that_is_found_twice_counts_once(within: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "outputs" / "run")
    done = within("report", "outputs", "outputs/run", str(tmp_path / "outputs"))
    assert "1 run: 1 finished" in done.stdout
    header, *rows = (tmp_path / "report.csv").read_text().splitlines()
    assert header
    assert len(rows) == 1


def test_csv_has_a_row_for_each_run_the_best_first(within: Command, tmp_path: Path) -> None:
    make_grid(tmp_path / "runs", ["lenet"], [0.1, 0.2], [64, 128], [0, 1], 4)
    done = within("report", "runs")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "runs" / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 5 + ["interrupted"] + ["failed"] * 2
    accuracies = [float(row["validation_accuracy"]) for row in rows[:5]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert rows[7]["error"] == "The training loss became nan in epoch 1."


def test_sweep_and_report_csv_are_equal(within: Command, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    run = make_run(sweep / "job", lr=0.5)
    (run / ".hydra" / "overrides.yaml").unlink()
    overrides = ["optimizer.lr=0.5", "augment.hflip=false", "seed=0"]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": {"job": overrides, "other": overrides}}))
    assert within("report", "sweep").returncode == 0
    assert (sweep / "sweep.csv").read_text() == (sweep / "report.csv").read_text()
    with (sweep / "sweep.csv").open() as file:
        row, _ = csv.DictReader(file)
    wanted = (
        "model",
        "data",
        "optimizer.lr",
        "augment.hflip",
        "seed",
        "best_epoch",
        "test_loss",
        "train_accuracy",
    )
    shown = [row[name] for name in wanted]
    assert shown[:5] == ["lenet", "fashion_mnist", "0.5", "false", "0"]
    assert all(shown)


def test_markdown_has_means_and_runs(within: Command, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / "runs" / str(seed), seed=seed)
    make_run(tmp_path / "runs" / "other", model="a|b")
    assert within("report", "runs").returncode == 0
    text = (tmp_path / "runs" / "report.md").read_text()
    assert text.startswith(
        "# 3 runs: 3 finished\n\nThe same in all runs: data fashion_mnist, size (px) 28, "
    )
    assert "## Mean ± standard deviation over seeds\n\n| network | n | seeds |" in text
    assert "| network | seed | parameters |" in text
    assert "| a\\|b | 0 | 1,000 |" in text


def test_report_replaces_links_instead_of_following_them(within: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "outputs" / "run")
    (tmp_path / "precious").write_text("mine")
    for name in FILES:
        (tmp_path / "outputs" / name).symlink_to(tmp_path / "precious")
    assert within("report", "outputs").returncode == 0
    assert (tmp_path / "precious").read_text() == "mine"


def test_control_characters_of_folder_names_are_not_printed(
    within: Command, tmp_path: Path
) -> None:
    make_run(tmp_path / "a\x1b[2J" / "run")
    done = within("report", "a\x1b[2J")
    assert (done.returncode, "\x1b" in done.stdout) == (0, False), done.stderr
    assert os.path.exists(tmp_path / "a\x1b[2J" / "report.html")  # noqa: PTH110
