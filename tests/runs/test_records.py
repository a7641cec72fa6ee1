"""Which runs are found in a folder, and what is read of them."""

import json
import os
from pathlib import Path

import pytest
from helpers.fake_runs import make_run

from cnnbench.runs.records import Record, read_records


def names(folder: Path) -> list[str]:
    return [str(run.path.relative_to(folder)) for run in read_records(folder)]


def only(folder: Path) -> Record:
    (run,) = read_records(folder)
    return run


def test_runs_are_found_four_folders_down_and_no_deeper(tmp_path: Path) -> None:
    for place in ("lenet/1", "sweeps/mine/job", "1/2/3/4", "1/2/3/other/5"):
        make_run(tmp_path / place)
    assert names(tmp_path) == ["1/2/3/4", "lenet/1", "sweeps/mine/job"]


def test_what_is_inside_a_run_is_not_looked_at(tmp_path: Path) -> None:
    make_run(tmp_path / "run" / "copy")
    (tmp_path / "run" / "status.json").write_text('{"state": "finished"}')
    assert names(tmp_path) == ["run"]


def test_a_link_is_followed_only_if_it_is_given(tmp_path: Path) -> None:
    make_run(tmp_path / "elsewhere" / "run")
    make_run(tmp_path / "here" / "run")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "here") == ["run"]
    assert names(tmp_path / "here" / "linked") == ["run"]


def test_jobs_of_a_sweep_further_down_have_its_overrides(tmp_path: Path) -> None:
    make_run(tmp_path / "sweeps" / "mine" / "begun")
    jobs = {"begun": ["seed=7"], "waiting": ["seed=8"]}
    (tmp_path / "sweeps" / "mine" / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    found = [(run.path.name, run.state, run.overrides) for run in read_records(tmp_path)]
    assert found == [("begun", "finished", ["seed=7"]), ("waiting", "not begun", ["seed=8"])]


def test_the_directories_of_benchmarks_are_no_runs(tmp_path: Path) -> None:
    make_run(tmp_path / "benchmarks" / "1", status={"state": "finished", "verb": "benchmark"})
    make_run(tmp_path / "lenet" / "1")
    assert names(tmp_path) == ["lenet/1"]


def test_a_run_with_a_link_out_of_it_is_refused_unread(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "config.yaml").rename(tmp_path / "secret")
    (run / "config.yaml").symlink_to(tmp_path / "secret")
    record = only(run)
    assert (record.state, record.config, record.result, record.rows) == ("refused", {}, {}, [])
    assert str(run / "config.yaml") in record.status["error"]


def test_a_folder_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "mine")
    (tmp_path / "theirs").mkdir()

    def scandir(folder: Path, scan=os.scandir):  # type: ignore[no-untyped-def]  # root may read anything
        if folder == tmp_path / "theirs":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr("cnnbench.runs.records.os.scandir", scandir)
    found = [
        (run.path.name, run.state, run.status.get("error", "")) for run in read_records(tmp_path)
    ]
    told = (
        f"{tmp_path / 'theirs'}: Permission denied. Permit access to it, or choose another folder."
    )
    assert found == [("mine", "finished", ""), ("theirs", "refused", told)]


def test_a_job_that_may_not_be_looked_into_is_refused_not_waiting(
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


def test_a_damaged_record_of_one_sweep_does_not_end_the_report_of_others(tmp_path: Path) -> None:
    make_run(tmp_path / "sound")
    make_run(tmp_path / "sweep" / "job")
    (tmp_path / "sweep" / "sweep.json").write_text("{")
    found = [(run.path.name, run.state) for run in read_records(tmp_path)]
    assert found == [("sound", "finished"), ("sweep", "refused")]


def test_what_is_not_finite_is_no_number_of_a_column(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "metrics.csv").write_text("epoch,train_loss\n1,nan\n2,inf\n3,0.5\n")
    assert only(run).column("train_loss") == [0.5]
    assert only(run).column("no_such") == []


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, '"' + "x" * 200_000])
def test_damaged_files_are_as_none(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path / "run")
    names = ("environment", "dataset", "evaluation", "result")
    for name in (*(f"{name}.json" for name in names), "metrics.csv"):
        (run / name).write_text(content)
    record = only(run)
    assert [getattr(record, name) for name in names] == [{}] * 4
    assert (record.state, record.rows, record.config["seed"]) == ("finished", [], 0)


@pytest.mark.parametrize(
    "content", ["seed: !!timestamp x", "a: &a [*a]", "1", "[" * 100_000, "- ["]
)
def test_damaged_yaml_is_as_none(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text(content)
    assert (only(run).config, only(run).value("seed")) == ({}, "0")
    (run / ".hydra" / "overrides.yaml").write_text(content)
    assert (only(run).overrides, only(run).value("seed")) == ([], "")


@pytest.mark.parametrize("given", ["!!timestamp x", "!!bool x", "[" * 10_000, "2"])
def test_odd_spellings_of_a_value_are_another_value(tmp_path: Path, given: str) -> None:
    run = make_run(tmp_path / "run")
    (run / ".hydra" / "overrides.yaml").write_text(json.dumps([f"seed={given}"]))
    assert only(run).value("seed") == "0"


@pytest.mark.parametrize("number", [10**400, 1e200, float("nan"), "1", None, [0.5], True])
def test_odd_figures_are_none(tmp_path: Path, number: object) -> None:
    odd = {"best": {"validation_accuracy": number}, "test_accuracy": number, "wall_s": []}
    record = only(make_run(tmp_path / "run", result=odd))
    assert record.validation_accuracy is None
    assert record.figure("test_accuracy") is record.figure("wall_s", "total") is None
