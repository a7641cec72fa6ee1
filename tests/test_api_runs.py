"""Runs as dictionaries, for pandas."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from helpers.command import Command
from helpers.fake_runs import make_run
from helpers.small_runs import SMALL

from cnnbench.api import list_runs
from cnnbench.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a finished, an interrupted and a failed run."""
    make_run(tmp_path / "a", "lenet", lr=0.5, seed=1)
    make_run(tmp_path / "b", "nin", lr=1.0, state="interrupted")
    make_run(tmp_path / "c", "lenet", state="failed")
    return tmp_path


def test_each_run_has_settings_figures_and_its_directory(folder: Path) -> None:
    run = list_runs(folder)[0]
    settings = {"model": "lenet", "data.resize": 28, "optimizer.lr": 0.5, "seed": 1}
    figures = {"parameters": 61_706, "epochs": 5, "status": "finished"}
    expected = {**settings, **figures, "directory": str(folder / "a"), "error": None}
    assert {key: run[key] for key in expected} == expected
    assert 0 < run["test_accuracy"] < run["validation_accuracy"] < 1


def test_all_runs_have_the_same_columns(folder: Path) -> None:
    (columns,) = {tuple(run) for run in list_runs(folder)}
    assert columns[:5] == ("model", "data", "data.resize", "optimizer", "optimizer.lr")


def test_unfinished_runs_lack_figures(folder: Path) -> None:
    _, interrupted, failed = list_runs(folder)
    assert (interrupted["status"], interrupted["epochs"]) == ("interrupted", 2)
    assert interrupted["test_accuracy"] is None
    assert 0 < interrupted["validation_accuracy"] < 1
    assert (failed["status"], failed["epochs"]) == ("failed", None)
    assert failed["error"] == "The training loss became nan in epoch 1."


def test_pandas_reads_numbers_as_numbers(folder: Path) -> None:
    frame = pd.DataFrame(list_runs(folder))
    assert frame["optimizer.lr"].tolist() == [0.5, 1.0, 0.1]
    assert frame["test_accuracy"].dtype == float
    assert frame["test_accuracy"].isna().tolist() == [False, True, True]
    assert frame.groupby("model")["seed"].sum().to_dict() == {"lenet": 1, "nin": 0}


def test_overridden_keys_of_a_sweep_are_columns(within: Command, tmp_path: Path) -> None:
    done = within(*SMALL, "train.epochs=1", "-m", "augment.hflip=false,true", "sweep=s")
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "outputs" / "sweeps" / "s"
    assert sorted(run["augment.hflip"] for run in list_runs(sweep)) == [False, True]


def test_columns_and_figures_are_those_of_the_report(folder: Path, within: Command) -> None:
    within("report", str(folder))
    with (folder / "report.csv").open() as file:
        reported = {row["directory"]: row for row in csv.DictReader(file)}
    for run in list_runs(folder):
        row = reported[run["directory"]]
        assert list(row) == list(run)
        assert (row["test_accuracy"] or None) == (
            None if run["test_accuracy"] is None else str(run["test_accuracy"])
        )


def test_several_directories_are_listed_in_their_order(folder: Path) -> None:
    runs = list_runs(folder / "b", str(folder / "a"))
    assert [Path(run["directory"]).name for run in runs] == ["b", "a"]


def test_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        list_runs(tmp_path)
