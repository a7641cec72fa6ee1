"""The records of the runs in a folder."""

import json
import os
from pathlib import Path

import pytest
from helpers.fake_runs import make_run

from cnnbench.runs.records import Record, read_records


def list_names(folder: Path) -> list[str]:
    return [str(run.path.relative_to(folder)) for run in read_records(folder)]


def read_one(folder: Path) -> Record:
    (run,) = read_records(folder)
    return run


def test_runs_are_found_at_most_four_folders_down(tmp_path: Path) -> None:
    for place in ("lenet/1", "sweeps/mine/job", "1/2/3/4", "1/2/3/other/5"):
        make_run(tmp_path / place)
    assert list_names(tmp_path) == ["1/2/3/4", "lenet/1", "sweeps/mine/job"]


def test_inside_of_a_run_is_not_searched(tmp_path: Path) -> None:
    make_run(tmp_path / "run" / "copy")
    (tmp_path / "run" / "status.json").write_text('{"state": "finished"}')
    assert list_names(tmp_path) == ["run"]


def test_link_is_followed_only_if_it_is_the_argument(tmp_path: Path) -> None:
    make_run(tmp_path / "elsewhere" / "run")
    make_run(tmp_path / "here" / "run")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    assert list_names(tmp_path / "here") == ["run"]
    assert list_names(tmp_path / "here" / "linked") == ["run"]


def test_jobs_of_a_sweep_have_the_recorded_overrides(tmp_path: Path) -> None:
    make_run(tmp_path / "sweeps" / "mine" / "begun")
    jobs = {"begun": ["seed=7"], "waiting": ["seed=8"]}
    (tmp_path / "sweeps" / "mine" / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    found = [(run.path.name, run.state, run.overrides) for run in read_records(tmp_path)]
    assert found == [("begun", "finished", ["seed=7"]), ("waiting", "not begun", ["seed=8"])]


def test_directories_of_benchmarks_are_skipped(tmp_path: Path) -> None:
    make_run(tmp_path / "benchmarks" / "1", status={"state": "finished", "verb": "benchmark"})
    make_run(tmp_path / "lenet" / "1")
    assert list_names(tmp_path) == ["lenet/1"]


def test_run_with_an_escaping_link_is_refused_unread(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "config.yaml").rename(tmp_path / "secret")
    (run / "config.yaml").symlink_to(tmp_path / "secret")
    record = read_one(run)
    assert (record.state, record.config, record.result, record.rows) == ("refused", {}, {}, [])
    assert str(run / "config.yaml") in record.status["error"]


def test_folder_without_read_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "mine")
    (tmp_path / "theirs").mkdir()

    # The permissions of the file system do not stop root.
    def scandir(folder: Path, scan=os.scandir):  # type: ignore[no-untyped-def]
        if folder == tmp_path / "theirs":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr("cnnbench.runs.records.os.scandir", scandir)
    found = [
        (run.path.name, run.state, run.status.get("error", "")) for run in read_records(tmp_path)
    ]
    message = "Permission denied. Permit access to it, or choose another folder."
    refused = ("theirs", "refused", f"{tmp_path / 'theirs'}: {message}")
    assert found == [("mine", "finished", ""), refused]


def test_job_without_read_permission_is_refused_and_not_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "theirs")
    (tmp_path / "sweep.json").write_text(
        json.dumps({"jobs": {"theirs": ["seed=7"], "waiting": ["seed=8"]}})
    )

    def stat(path: Path, real=Path.stat, **more):  # type: ignore[no-untyped-def]
        if path.parent == tmp_path / "theirs":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **more)

    monkeypatch.setattr(Path, "stat", stat)
    found = [(run.path.name, run.state, run.overrides) for run in read_records(tmp_path)]
    assert found == [("theirs", "refused", ["seed=7"]), ("waiting", "not begun", ["seed=8"])]


def test_damaged_record_of_a_sweep_does_not_hide_other_runs(tmp_path: Path) -> None:
    make_run(tmp_path / "sound")
    make_run(tmp_path / "sweep" / "job")
    (tmp_path / "sweep" / "sweep.json").write_text("{")
    found = [(run.path.name, run.state) for run in read_records(tmp_path)]
    assert found == [("sound", "finished"), ("sweep", "refused")]


def test_column_has_only_finite_numbers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "metrics.csv").write_text("epoch,train_loss\n1,nan\n2,inf\n3,0.5\n")
    assert read_one(run).column("train_loss") == [0.5]
    assert read_one(run).column("no_such") == []


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, '"' + "x" * 200_000])
def test_damaged_files_count_as_missing(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path / "run")
    names = ("environment", "dataset", "evaluation", "result")
    for name in (*(f"{name}.json" for name in names), "metrics.csv"):
        (run / name).write_text(content)
    record = read_one(run)
    assert [getattr(record, name) for name in names] == [{}] * 4
    assert (record.state, record.rows, record.config["seed"]) == ("finished", [], 0)


@pytest.mark.parametrize(
    "content", ["seed: !!timestamp x", "a: &a [*a]", "1", "[" * 100_000, "- ["]
)
def test_damaged_yaml_counts_as_missing(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text(content)
    assert (read_one(run).config, read_one(run).value("seed")) == ({}, "0")
    (run / ".hydra" / "overrides.yaml").write_text(content)
    assert (read_one(run).overrides, read_one(run).value("seed")) == ([], "")


@pytest.mark.parametrize("given", ["!!timestamp x", "!!bool x", "[" * 10_000, "2"])
def test_configured_value_replaces_another_override(tmp_path: Path, given: str) -> None:
    run = make_run(tmp_path / "run")
    (run / ".hydra" / "overrides.yaml").write_text(json.dumps([f"seed={given}"]))
    assert read_one(run).value("seed") == "0"


@pytest.mark.parametrize("number", [10**400, 1e200, float("nan"), "1", None, [0.5], True])
def test_invalid_figures_are_none(tmp_path: Path, number: object) -> None:
    odd = {"best": {"validation_accuracy": number}, "test_accuracy": number, "wall_s": []}
    record = read_one(make_run(tmp_path / "run", result=odd))
    assert record.validation_accuracy is None
    assert record.figure("test_accuracy") is record.figure("wall_s", "total") is None
