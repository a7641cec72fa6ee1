"""The run directory: one run per directory, its files and its status."""

import csv
import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from cnnbench.errors import ConfigError
from cnnbench.runs.directory import (
    LOCK,
    STATUS,
    RunDirectory,
    claim_exactly,
    claim_new,
    require_empty,
)

RIVALS = 8


def load_status(directory: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / "status.json").read_text())
    return values


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def test_claimed_directory_is_created_and_records_its_process(tmp_path: Path) -> None:
    claim_exactly(tmp_path / "a" / "b")
    recorded = load_status(tmp_path / "a" / "b")
    who = (recorded["state"], recorded["pid"], recorded["host"])
    assert who == ("running", os.getpid(), socket.gethostname())


def test_directory_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "finished"}')
    with pytest.raises(ConfigError, match="already holds a run"):
        claim_exactly(tmp_path)
    assert load_status(tmp_path) == {"state": "finished"}


@pytest.mark.parametrize(
    ("names", "is_allowed"),
    [((), True), ((LOCK,), True), ((STATUS, "b"), True), (("a",), False), ((LOCK, "a"), False)],
    ids=str,
)
def test_directory_with_only_other_files_is_refused(
    tmp_path: Path, names: tuple[str, ...], is_allowed: bool
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with (
        nullcontext() if is_allowed else pytest.raises(ConfigError, match="is not an empty folder")
    ):
        require_empty(tmp_path, STATUS)


def test_missing_directory_counts_as_empty(tmp_path: Path) -> None:
    require_empty(tmp_path / "new", STATUS)
    assert not (tmp_path / "new").exists()


def claim_at_once(claim: Callable[[], Path | None]) -> list[str]:
    """Claim directories from several threads at once. Return the names of the claimed ones."""
    together = Barrier(RIVALS)

    def run(_: int) -> Path | None:
        together.wait(timeout=60)
        with suppress(ConfigError):
            return claim()
        return None

    with ThreadPoolExecutor(RIVALS) as rivals:
        return sorted(path.name for path in rivals.map(run, range(RIVALS)) if path is not None)


def test_one_of_many_rivals_claims_a_directory(tmp_path: Path) -> None:
    assert claim_at_once(lambda: claim_exactly(tmp_path / "run").path) == ["run"]


def test_each_rival_claims_a_separate_new_directory(tmp_path: Path) -> None:
    claimed = claim_at_once(lambda: claim_new(tmp_path / "run").path)
    assert claimed == ["run", *(f"run_{number}" for number in range(2, RIVALS + 1))]


def test_folder_of_checkpoints_is_created(run: RunDirectory) -> None:
    assert run.checkpoints.is_dir()


def test_rows_keep_every_digit(run: RunDirectory) -> None:
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-17 / 3}]
    run.write_rows("metrics.csv", rows)
    with (run.path / "metrics.csv").open() as file:
        assert [
            {"epoch": int(row["epoch"]), "loss": float(row["loss"])} for row in csv.DictReader(file)
        ] == rows


def test_text_and_values_are_written_as_utf_8(run: RunDirectory) -> None:
    run.write_text("config.yaml", "données\n")
    assert (run.path / "config.yaml").read_bytes() == "données\n".encode()
    run.write_json("result.json", {"best": None, "test_accuracy": 0.5})
    assert json.loads((run.path / "result.json").read_text()) == {
        "best": None,
        "test_accuracy": 0.5,
    }


def test_run_is_running_in_the_block_and_finished_after_it(run: RunDirectory) -> None:
    claim_exactly(run.path)
    with run.recorded_status():
        assert load_status(run.path)["state"] == "running"
    assert load_status(run.path)["state"] == "finished"


def test_failed_run_records_its_error_and_traceback(run: RunDirectory) -> None:
    with pytest.raises(ZeroDivisionError), run.recorded_status():
        raise ZeroDivisionError("division by zero")
    recorded = load_status(run.path)
    assert (recorded["state"], recorded["error"]) == (
        "failed",
        "ZeroDivisionError: division by zero",
    )
    assert "in test_failed_run_records_its_error_and_traceback" in recorded["traceback"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
# Python before 3.12 wraps an interruption at the end of a class body.
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_stopped_run_is_interrupted(
    is_wrapped: bool, stop: type[BaseException], run: RunDirectory
) -> None:
    error: BaseException = stop()
    if is_wrapped:
        error = RuntimeError("Error calling __set_name__")
        error.__cause__ = stop()
    with pytest.raises(stop), run.recorded_status():
        raise error
    recorded = load_status(run.path)
    assert (recorded["state"], recorded["error"]) == ("interrupted", stop.__name__)


def test_error_caused_by_an_exit_is_a_failure(run: RunDirectory) -> None:
    with pytest.raises(ConfigError), run.recorded_status():
        raise ConfigError("model.name=mine:Net ends the program") from SystemExit()
    assert load_status(run.path)["state"] == "failed"


def test_full_disk_does_not_hide_the_error_of_the_run(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ValueError, match="of the run"), run.recorded_status():
        raise ValueError("of the run")
