"""Directories of sweeps that may be anyone's: they say what to train with, and nothing else happens."""

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from forking import ForkServer
from in_process import run_in_process
from small_runs import SMALL, Runs


def make(folder: Path, jobs: Any) -> Path:
    sweep = folder / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_text(jobs if isinstance(jobs, str) else json.dumps({"jobs": jobs}))
    return sweep


def resumed(folder: Path, *more: str) -> tuple[int, str]:
    done = run_in_process("resume", "sweep", *more, folder=folder, SECRET="told")
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


REFUSED = {
    "callback": ["+hydra.callbacks.x._target_=own.Evil"],
    "launcher": ["hydra/launcher=basic"],
    "place": ["hydra.sweep.dir=elsewhere"],
    "environment": ["sweep=${oc.env:SECRET}"],
    "environment in a list": ["model.widths=[8,'${oc.env:SECRET}']"],
    "module": ["model.name=own:Evil"],
    "added module": ["++model.name=own:Evil"],
    "module by another key": ["sweep=own:Evil", "model.name=${sweep}"],
    "configuration elsewhere": ["experiment=../../../evil"],
    "configuration by its path": ["experiment='/evil'"],
    "part of Hydra": ["+model@hydra.job.env_set=mlp"],
    "data": ["data.root=/elsewhere"],
    "server": ["seed=1", "tracker=mlflow", "tracker.mlflow.uri=http://127.0.0.1:9"],
}


@pytest.mark.parametrize("overrides", REFUSED.values(), ids=REFUSED)
def test_what_is_more_than_values_is_refused_before_any_job(tmp_path: Path, overrides: Sequence[str]) -> None:
    (tmp_path / "own.py").write_text("open('ran', 'w')\n")
    sweep = make(tmp_path, {"harmless": [*SMALL], "job": [*SMALL, *overrides]})
    code, said = resumed(tmp_path)
    assert (code, overrides[-1].lstrip("+") in said) == (2, True), said
    assert [each.name for each in sweep.iterdir()] == ["sweep.json"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["own.py", "sweep"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlflow") is None, reason="the extra mlflow is not installed")
def test_a_server_that_is_named_again_is_told_of_the_jobs(tmp_path: Path) -> None:
    uri = "tracker.mlflow.uri=nonsense://x"  # so it is told, and fails
    make(tmp_path, {"job": [*SMALL, "train.epochs=1", "tracker=mlflow", uri]})
    code, said = resumed(tmp_path, uri)
    assert (code, "The tracker mlflow failed at the start" in said) == (0, True), said


@pytest.mark.parametrize(
    "jobs",
    [
        *("", "[1]", "{}", '{"jobs": 7}', "[" * 100_000),
        *({"job": ["seed=1"] * 2_000}, {"job": ["seed=\ud800"]}),
        *({"../out": []}, {"..": []}, {"": []}, {"a/b": []}, {"job": "seed=1"}, {"job": [1]}, {"job": None}),
    ],
    ids=lambda jobs: str(jobs)[:12],
)
def test_a_damaged_list_of_jobs_is_told(tmp_path: Path, jobs: Any) -> None:
    make(tmp_path, jobs)
    code, said = resumed(tmp_path)
    assert (code, "sweep.json" in said) == (2, True), said
    assert [each.name for each in tmp_path.iterdir()] == ["sweep"]


def test_what_a_configuration_of_ones_own_asks_for_needs_consent_too(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("open('ran', 'w')\n")
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    evil = "# @package _global_\nmodel: {name: 'own:Evil'}\n"
    (tmp_path / "mine" / "experiment" / "evil.yaml").write_text(evil)
    make(tmp_path, {"job": [*SMALL, "experiment=evil"]})
    code, said = resumed(tmp_path, "--config-dir", "mine")
    assert (code, "model.name=own:Evil, code that is not cnnbench's" in said) == (2, True), said
    (tmp_path / "mine" / "experiment" / "evil.yaml").write_text(
        "# @package _global_\nhydra: {sweep: {subdir: ../out}}\n"
    )
    code, said = resumed(tmp_path, "--config-dir", "mine")
    assert (code, "it changes how Hydra works" in said) == (2, True), said
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine", "own.py", "sweep"]


def test_report_writes_through_no_link(tmp_path: Path) -> None:
    sweep = make(tmp_path, {"job": []})
    (tmp_path / "outside").write_text("mine")
    (sweep / "sweep.csv").symlink_to(tmp_path / "outside")
    for pid in range(os.getpid(), os.getpid() + 2_000):  # of the processes to come
        (sweep / f".sweep.csv.{pid}.tmp").symlink_to(tmp_path / "outside")
    assert run_in_process("report", "sweep", folder=tmp_path).returncode == 0
    assert (tmp_path / "outside").read_text() == "mine"


@pytest.mark.parametrize("name", ["result.json", "metrics.csv", "config.yaml", ".hydra/overrides.yaml", "status.json"])
@pytest.mark.parametrize("content", [None, "- !!bool x", "- !!timestamp x", "seed: !!bool x", '"' + "x" * 200_000])
def test_report_survives_whatever_a_file_holds(
    forks: ForkServer, runs: Runs, tmp_path: Path, name: str, content: str | None
) -> None:
    path = runs.copy("finished", tmp_path / "run") / name
    path.unlink()
    os.mkfifo(path) if content is None else path.write_text(content)
    done = forks.start("report", "run", folder=tmp_path).wait(timeout_s=30)
    assert (done.returncode, "1 run: 1 " in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("accuracy", [10**400, float("nan"), "1", None, [0.5]])
def test_report_survives_figures_that_are_none(runs: Runs, tmp_path: Path, accuracy: Any) -> None:
    path = runs.copy("finished", tmp_path / "run") / "result.json"
    path.write_text(json.dumps({"best": {"validation_accuracy": accuracy}, "test_accuracy": accuracy, "wall_s": []}))
    done = run_in_process("report", "run", folder=tmp_path)
    assert (done.returncode, "1 run: 1 finished" in done.stdout) == (0, True), done.stderr


def test_a_job_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    sweep = make(tmp_path, {"job": [*SMALL]})
    (tmp_path / "outside").mkdir()
    (sweep / "job").symlink_to(tmp_path / "outside")
    code, said = resumed(tmp_path)
    assert (code, "is a link, and is not followed" in said) == (2, True), said
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_directory_of_a_job_is_named_by_its_overrides_whatever_the_record_says(tmp_path: Path) -> None:
    sweep = make(tmp_path, {"harmless": [*SMALL]})
    code, said = resumed(tmp_path)
    assert (code, "1 finished, 1 not begun" in said) == (0, True), said
    assert not (sweep / "harmless").exists()


def test_names_and_errors_cannot_steer_the_terminal(tmp_path: Path) -> None:
    make(tmp_path, {"job\x1b[2J": ["seed=1\x1b[2J"], "other": ["seed=2"]})
    done = run_in_process("report", "sweep", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "seed=1?[2J" in done.stdout
    assert "\x1b" not in done.stdout
