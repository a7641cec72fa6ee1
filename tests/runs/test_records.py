"""Which runs are found in a folder, and what is read of them."""

import json
import os
from pathlib import Path

import pytest
from made_runs import make_run

from cnnbench.errors import ConfigError
from cnnbench.runs.records import Record, read_records


def names(folder: Path) -> list[str]:
    return [str(run.path.relative_to(folder)) for run in read_records(folder)]


def only(folder: Path) -> Record:
    (run,) = read_records(folder)
    return run


def test_runs_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    for place in ("outputs/lenet/1", "outputs/sweeps/mine/job", "outputs/lenet/2"):
        make_run(tmp_path / place)
    assert names(tmp_path) == ["outputs/lenet/1", "outputs/lenet/2", "outputs/sweeps/mine/job"]


def test_runs_are_found_four_folders_down_and_no_deeper(tmp_path: Path) -> None:
    make_run(tmp_path / "1/2/3/4")
    make_run(tmp_path / "1/2/3/other/5")
    assert names(tmp_path) == ["1/2/3/4"]


def test_what_is_inside_a_run_is_not_looked_at(tmp_path: Path) -> None:
    make_run(tmp_path / "run" / "copy")
    (tmp_path / "run" / "status.json").write_text('{"state": "finished"}')
    assert names(tmp_path) == ["run"]


def test_a_link_to_a_folder_of_runs_is_not_followed(tmp_path: Path) -> None:
    make_run(tmp_path / "elsewhere" / "run")
    make_run(tmp_path / "here" / "run")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "here") == ["run"]


def test_a_link_that_is_given_is_followed(tmp_path: Path) -> None:
    make_run(tmp_path / "elsewhere" / "run")
    (tmp_path / "here").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "here") == ["run"]


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


@pytest.mark.parametrize(("name", "message"), [("", "holds no run"), ("nothing", "is no directory")])
def test_a_folder_without_runs_is_told(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_records(tmp_path / name)


@pytest.mark.parametrize("name", ["config.yaml", "status.json", ".hydra", "checkpoints/last.pt"])
def test_a_run_with_a_link_out_of_it_is_refused_unread(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "secret").write_text("seed: 12345")
    path = run / name
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / ("moved" if name == ".hydra" else "secret"))
    record = only(tmp_path / "run")
    assert (record.state, record.config, record.result, record.rows) == ("refused", {}, {}, [])
    assert str(path) in record.status["error"]


def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "mine")
    (tmp_path / "theirs").mkdir()

    def scandir(folder: Path, scan=os.scandir):  # type: ignore[no-untyped-def]  # root may read anything
        if folder == tmp_path / "theirs":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr("cnnbench.runs.records.os.scandir", scandir)
    found = [(run.path.name, run.state, run.status.get("error", "")) for run in read_records(tmp_path)]
    told = f"{tmp_path / 'theirs'}: Permission denied. Permit access to it, or choose another folder."
    assert found == [("mine", "finished", ""), ("theirs", "refused", told)]


def test_a_job_that_may_not_be_looked_into_is_refused_not_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "theirs")
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": {"theirs": ["seed=7"], "waiting": ["seed=8"]}}))

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


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_damaged_file_beside_the_others_is_none(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path / "run")
    for name in ("environment", "dataset", "evaluation"):
        (run / f"{name}.json").write_text(content)
    record = only(run)
    assert (record.environment, record.dataset, record.evaluation) == ({}, {}, {})
    assert record.figure("parameters") == 61_706
