"""Runs that train.patience or train.max_minutes end: exit codes, records, and how they resume."""

import json
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.compare_runs import find_differences
from helpers.image_folders import fill
from helpers.small_runs import SMALL

from cnnbench.api import train
from cnnbench.runs.reading import read_status

AT_ONCE = "train.max_minutes=1e-9"
# The rate is too low to change the accuracy, so that the first epoch is the best.
IMPATIENT = (*SMALL, "optimizer.lr=1e-9", "train.epochs=9", "train.patience=2")


def test_time_limit_ends_a_run_with_exit_code_0_and_the_resume_command(
    within: Command, tmp_path: Path
) -> None:
    done = within(*SMALL, AT_ONCE, "hydra.run.dir=run")
    assert (done.returncode, done.stderr) == (0, "To resume: cnnbench resume run\n")
    assert "Stopped. checkpoints/last.pt holds epoch 1 up to step 1." in done.stdout
    status = read_status(tmp_path / "run")
    assert (status["state"], status["error"]) == ("interrupted", "TimeLimitReached")


def test_run_that_was_stopped_by_its_time_limit_resumes_with_the_same_bits(
    within: Command, tmp_path: Path
) -> None:
    within(*SMALL, AT_ONCE, "hydra.run.dir=run")
    again = within("resume", "run")
    assert (again.returncode, again.stderr) == (0, "To resume: cnnbench resume run\n")
    assert "epoch 1 up to step 2." in again.stdout
    assert within("resume", "run", "train.max_minutes=null").returncode == 0
    within(*SMALL, "hydra.run.dir=uninterrupted")
    assert find_differences(tmp_path / "run", tmp_path / "uninterrupted") == []


def test_same_command_with_another_time_limit_resumes(within: Command, tmp_path: Path) -> None:
    within(*SMALL, AT_ONCE, "hydra.run.dir=run")
    assert within(*SMALL, "train.max_minutes=9", "hydra.run.dir=run").returncode == 0
    assert read_status(tmp_path / "run")["state"] == "finished"


def test_time_limit_is_of_each_job_of_a_sweep(within: Command, tmp_path: Path) -> None:
    done = within("-m", *SMALL, AT_ONCE, "seed=0,1", "hydra.sweep.dir=sweep", "sweep=s")
    assert done.returncode == 0
    assert done.stderr.startswith("To resume: cnnbench -m ")
    assert "train.max_minutes" not in "".join(path.name for path in (tmp_path / "sweep").iterdir())
    states = [read_status(path.parent)["state"] for path in tmp_path.rglob("status.json")]
    assert states == ["interrupted", "interrupted"]
    assert within("resume", "sweep", "train.max_minutes=null").returncode == 0
    states = [read_status(path.parent)["state"] for path in tmp_path.rglob("status.json")]
    assert states == ["finished", "finished"]


def test_time_limit_stops_a_run_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = train(*SMALL, AT_ONCE)
    assert result.stopped
    assert result.rows == []


def test_patience_ends_a_run_which_is_finished(within: Command, tmp_path: Path) -> None:
    done = within(*IMPATIENT, "hydra.run.dir=run")
    assert done.returncode == 0
    message = "Ended after 3 epochs by train.patience=2: no better validation accuracy since epoch"
    assert f"{message} 1." in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["ended_by"], result["best"]["epoch"], result["final"]["epoch"]) == (
        "patience",
        1,
        3,
    )
    again = within("resume", "run")
    assert again.returncode == 0
    assert "Nothing to do; a larger train.patience, or null, would train it longer." in again.stdout


def test_finished_run_trains_on_with_more_patience(within: Command, tmp_path: Path) -> None:
    within(*IMPATIENT, "hydra.run.dir=run")
    assert within("resume", "run", "train.patience=4").returncode == 0
    within(*IMPATIENT, "train.patience=4", "hydra.run.dir=at_once")
    differences = find_differences(tmp_path / "run", tmp_path / "at_once")
    assert differences == ["best.pt.config.train.patience"]  # saved with the patience of then


def test_epochs_end_a_run_that_has_patience_left(within: Command, tmp_path: Path) -> None:
    within(*SMALL, "train.patience=2", "hydra.run.dir=run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["ended_by"] == "epochs"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.patience=0", "train.patience=0 is out of range. It must be at least 1"),
        ("train.max_minutes=-1", "train.max_minutes=-1 is out of range. It must be above 0"),
        ("train.max_minutes=0", "train.max_minutes=0 is out of range. It must be above 0"),
        ("train.select_by=f1", "train.select_by=f1 is not known. Allowed: accuracy, loss"),
        ("train.accumulate=0", "train.accumulate=0 is out of range. It must be at least 1"),
        ("train.accumulate=17", "It must be at most train.batch_size=16: each micro-batch needs"),
        (
            "data.class_weights=even",
            "data.class_weights=even is not known. Allowed: balanced, none",
        ),
    ],
)
def test_wrong_values_are_refused(within: Command, override: str, message: str) -> None:
    done = within(*SMALL, override)
    assert done.returncode == 2
    assert message in done.stderr


def test_run_with_class_weights_is_evaluated_with_the_reference_loss(within: Command) -> None:
    assert within(*SMALL, "data.class_weights=balanced", "hydra.run.dir=run").returncode == 0
    done = within("evaluate", "run", "reference=all")
    assert (done.returncode, done.stderr) == (0, "")


def test_reference_loss_has_no_class_weights(within: Command) -> None:
    done = within(*SMALL, "reference.loss=true", "data.class_weights=balanced")
    assert done.returncode == 2
    assert "reference.loss=true has no weights of classes." in done.stderr


def test_fold_that_lacks_a_class_cannot_be_balanced(within: Command, tmp_path: Path) -> None:
    fill(tmp_path / "photos", {"Bag": 12, "Sandal": 12, "Rare": 2})  # one image to test on
    data = ("data=folder", "data.path=photos", "data.image_size=8", "data.folds=2")
    small = [word for word in SMALL if not word.startswith("data")]
    done = [
        within(*small, *data, "data.class_weights=balanced", f"data.fold={fold}") for fold in (0, 1)
    ]
    assert sorted(each.returncode for each in done) == [0, 2]
    errors = "".join(each.stderr for each in done)
    assert "needs training examples of each class. There are none of: Rare." in errors
