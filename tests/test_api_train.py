"""Training from Python: its numbers, its files, `on_epoch` and its errors."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from helpers.command import TINY, Command, find_only_run
from helpers.compare_runs import find_differences
from helpers.small_runs import read_files

from cnnbench.api import Result, Row, train
from cnnbench.errors import ConfigError, DivergedError

ONE_EPOCH = (*TINY, "train.epochs=1", "train.fail_if_not_learning=false")


@pytest.fixture(autouse=True)
def _change_to_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def status(directory: Path) -> dict[str, str]:
    return json.loads((directory / "status.json").read_text())


def test_train_has_the_numbers_of_the_command_line(within: Command, tmp_path: Path) -> None:
    within(*TINY, "hydra.run.dir=typed")
    assert find_differences(train(*TINY).directory, tmp_path / "typed") == []


def test_train_writes_the_files_of_the_command_line(within: Command, tmp_path: Path) -> None:
    within(*TINY, "hydra.run.dir=typed")
    run, typed = train(*TINY).directory, tmp_path / "typed"
    files = {path.relative_to(run) for path in run.rglob("*")}
    assert files == {path.relative_to(typed) for path in typed.rglob("*")}


@pytest.mark.parametrize("name", ["config.yaml", ".hydra/config.yaml", ".hydra/overrides.yaml"])
def test_train_records_the_configuration_of_the_command_line(
    name: str, within: Command, tmp_path: Path
) -> None:
    overrides = (*TINY, "sweep=one")
    within(*overrides, "hydra.run.dir=typed")
    recorded = (train(*overrides).directory / name).read_text()
    assert recorded == (tmp_path / "typed" / name).read_text()


def test_result_equals_the_records() -> None:
    result = train(*TINY)
    with (result.directory / "metrics.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    recorded = json.loads((result.directory / "result.json").read_text())
    best = recorded["best"]
    assert result == Result(
        result.directory,
        rows,
        best,
        best["validation_accuracy"],
        test_accuracy=recorded["test_accuracy"],
    )


def test_value_without_validation_set_is_the_last_test_accuracy() -> None:
    result = train(*TINY, "data.validation=0")
    assert (result.best, result.value) == (None, result.rows[-1]["test_accuracy"])


def test_default_directory_is_that_of_the_command(tmp_path: Path) -> None:
    directory = train(*ONE_EPOCH).directory
    assert directory == find_only_run(tmp_path)
    assert directory.parent == tmp_path / "outputs" / "lenet_relu-sample-28px"


@pytest.mark.parametrize("kind", [str, Path])
def test_directory_argument_is_used(tmp_path: Path, kind: type) -> None:
    assert train(*ONE_EPOCH, directory=kind("here")).directory == tmp_path / "here"


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(ConfigError, match=r"'.' already exists and is not an empty folder"):
        train(*TINY, directory=".")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_a_directory_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    train(*ONE_EPOCH, directory=tmp_path / "here")
    with pytest.raises(ConfigError, match="here already holds a run"):
        train(*TINY, directory=tmp_path / "here")


def test_same_call_resumes_a_stopped_run_to_the_same_numbers() -> None:
    stopped = train(*TINY, directory="here", on_epoch=lambda row: False)
    resumed, rows = train(*TINY, directory="here"), []
    assert (len(stopped.rows), resumed.stopped) == (1, False)
    whole = train(*TINY, on_epoch=rows.append)
    assert find_differences(resumed.directory, whole.directory) == []
    assert resumed.value == whole.value
    assert len(resumed.rows) == len(rows)


@pytest.mark.parametrize("validation", ["100", "0"])
def test_same_call_returns_the_result_of_a_finished_run(validation: str, tmp_path: Path) -> None:
    job = (*ONE_EPOCH, f"data.validation={validation}")
    result = train(*job, directory="here")
    before = read_files(tmp_path)
    assert train(*job, directory="here") == result
    assert read_files(tmp_path) == before
    shutil.rmtree(tmp_path / "here" / "checkpoints")
    assert train(*job, directory="here") == result


def test_on_epoch_gets_each_row() -> None:
    given: list[Row] = []
    assert train(*TINY, on_epoch=given.append).rows == given


def test_on_epoch_gets_a_copy_of_the_row() -> None:
    assert "mine" not in train(*TINY, on_epoch=lambda row: row.update(mine=1.0)).rows[0]


def test_on_epoch_stops_the_run_by_returning_false() -> None:
    result = train(*TINY, on_epoch=lambda row: False)
    assert result.stopped
    assert len(result.rows) == 1
    assert result.value == result.rows[0]["validation_accuracy"]
    assert result.test_accuracy is None


def test_stopped_run_is_recorded_as_interrupted() -> None:
    directory = train(*TINY, on_epoch=lambda row: False).directory
    assert (status(directory)["state"], status(directory)["error"]) == (
        "interrupted",
        "StoppedByOnEpoch",
    )


def test_stopped_run_has_no_test_result() -> None:
    directory = train(*TINY, on_epoch=lambda row: row["epoch"] < 2).directory
    assert not (directory / "result.json").exists()


def test_stopped_run_resumes_to_the_same_numbers(within: Command, tmp_path: Path) -> None:
    stopped = train(
        *TINY, "train.checkpoint_every.epochs=null", on_epoch=lambda row: False
    ).directory
    assert within("resume", str(stopped)).returncode == 0
    assert (
        find_differences(stopped, train(*TINY, "train.checkpoint_every.epochs=null").directory)
        == []
    )


class PrunedError(Exception):
    """The exception with which a search ends a run."""


def test_exception_of_on_epoch_is_raised_and_recorded(tmp_path: Path) -> None:
    def prune(row: Row) -> None:
        raise PrunedError("worse than others")

    with pytest.raises(PrunedError):
        train(*TINY, on_epoch=prune)
    recorded = status(find_only_run(tmp_path))
    assert (recorded["state"], recorded["error"]) == ("failed", "PrunedError: worse than others")


@pytest.mark.parametrize(
    "override",
    ["lr=0.1", "model=lenett", "+model=alexnet", "data.resize=3", "train.epochs=some", "a b",
     "+nothing=1", "device.precision=fp8"],
)  # fmt: skip
def test_errors_have_the_messages_of_the_command_line(override: str, within: Command) -> None:
    typed = within("data=sample", "device=cpu", override)
    assert typed.returncode == 2
    with pytest.raises(ConfigError) as raised:
        train("data=sample", "device=cpu", override)
    assert f"cnnbench: {raised.value}\n" == typed.stderr


@pytest.mark.parametrize("override", ["optimizer.lr=0.1,0.2", "-m", "--help"])
def test_flags_of_the_command_line_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override):
        train(override)


def test_divergence_is_raised(tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        train(*TINY, "optimizer.lr=1e30")
    assert status(find_only_run(tmp_path))["state"] == "failed"


def test_train_works_after_a_failed_run() -> None:
    with pytest.raises(ConfigError):
        train("lr=0.1")
    assert train(*ONE_EPOCH).test_accuracy is not None
