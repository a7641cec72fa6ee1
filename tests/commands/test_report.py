"""`cnnbench report`: what it writes and where, what it says, how it ends."""

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


def test_a_folder_of_runs_has_the_report_beside_them_and_the_table_is_printed(
    within: Command, tmp_path: Path
) -> None:
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
def test_of_several_folders_the_report_is_here_or_where_asked(
    within: Command, tmp_path: Path, place: str
) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / name / "run")
    done = within("report", "a", "b", *(["--output", place] if place else []))
    assert (done.returncode, written(tmp_path / place)) == (0, FILES), done.stderr
    kinds = ("html", "csv", "md")
    assert done.stdout.splitlines()[-3:] == [f"{place}report.{kind}" for kind in kinds]


def test_a_place_that_cannot_be_written_to_is_told(within: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    done = within("report", "run", "--output", "file")
    assert done.returncode == 2
    assert (
        done.stderr
        == "cnnbench: file cannot be written: File exists. Name another place: --output DIR.\n"
    )


@pytest.mark.parametrize("name", ["empty", "nothing", "file"])
def test_a_report_over_nothing_is_told_and_not_written(
    within: Command, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    done = within("report", name)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)
    assert "Give run or sweep directories, or a folder of them" in done.stderr
    assert written(tmp_path) + written(tmp_path / "empty") == []


def test_no_directory_is_bad_usage(within: Command) -> None:
    done = within("report")
    message = "cnnbench: Name a run, a sweep, or a folder of them: cnnbench report DIR ...\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_a_run_that_is_found_twice_is_one(within: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "outputs" / "run")
    done = within("report", "outputs", "outputs/run", str(tmp_path / "outputs"))
    assert "1 run: 1 finished" in done.stdout
    assert (
        len((tmp_path / "report.csv").read_text().splitlines()) == 2
    )  # with the names of the columns


def test_the_csv_has_a_row_for_each_run_the_best_first_with_what_became_of_it(
    within: Command, tmp_path: Path
) -> None:
    make_grid(tmp_path / "runs", ["lenet"], [0.1, 0.2], [64, 128], [0, 1], 4)
    done = within("report", "runs")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "runs" / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 5 + ["interrupted"] + ["failed"] * 2
    accuracies = [float(row["validation_accuracy"]) for row in rows[:5]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert rows[7]["error"] == "The training loss became nan in epoch 1."


def test_both_tables_in_files_have_the_same_columns_network_data_and_all_keys(
    within: Command, tmp_path: Path
) -> None:
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


def test_the_markdown_has_means_and_runs(within: Command, tmp_path: Path) -> None:
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


def test_a_link_in_place_of_the_report_is_replaced_not_followed(
    within: Command, tmp_path: Path
) -> None:
    make_run(tmp_path / "outputs" / "run")
    (tmp_path / "precious").write_text("mine")
    for name in FILES:
        (tmp_path / "outputs" / name).symlink_to(tmp_path / "precious")
    assert within("report", "outputs").returncode == 0
    assert (tmp_path / "precious").read_text() == "mine"


def test_names_that_could_steer_the_terminal_cannot(within: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "a\x1b[2J" / "run")
    done = within("report", "a\x1b[2J")
    assert (done.returncode, "\x1b" in done.stdout) == (0, False), done.stderr
    assert os.path.exists(tmp_path / "a\x1b[2J" / "report.html")  # noqa: PTH110
