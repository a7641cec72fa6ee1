"""results.csv: rows of runs, files that are written and read, and damaged files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_records import FakeEpochs, make_record
from helpers.fake_stored_runs import make_run

from cnnbench.errors import ConfigError
from cnnbench.reports.reproduction.stored_runs import (
    StoredRun,
    merge_runs,
    read_stored_runs,
    store_run,
    write_stored_runs,
)
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.records import Record

NAME = "claims/x"
JOB = [f"experiment={NAME}", "model=lenet", "seed=3", "data.resize=32"]
EPOCHS = FakeEpochs(
    earlier=[0.1, 0.76, 0.7], test_losses=[0.9, 0.4, 0.5, 0.55], train_accuracy=0.85, epoch_s=2.0
)


def finished(**files: Any) -> Record:
    """Return the record of a run of four epochs on 1,000 of 6,000 examples in batches of 64."""
    run = make_record(NAME, {"model": "lenet"}, 3, epochs=EPOCHS, **files)
    run.config["train"] = {"batch_size": 64}
    run.config["model"]["recipe"] = {"batch_size": 256}
    run.environment["data"] = {"train": 1000}
    run.dataset["train_examples"] = 6000
    return run


def store(run: Record) -> StoredRun:
    row = store_run(run, JOB)
    assert row is not None
    return row


def test_row_has_the_figures_of_a_finished_run() -> None:
    run = finished(environment={"threads": 2})
    run.rows[0]["epoch_s"] = 90.0  # the first epoch includes preparations
    row = store(run)
    assert (row.experiment, row.overrides, row.seed) == (NAME, "model=lenet data.resize=32", 3)
    assert (row.state, row.accuracy, row.accuracies) == ("finished", 0.8, "0.1 0.76 0.7 0.8")
    assert (row.epoch_s, row.test_loss_rise, row.train_less_test) == (2.0, 0.15, 0.05)
    assert (row.steps, row.recipe_steps) == (4 * 16, 2 * 24)
    assert (row.seconds, row.chip, row.precision, row.peak_gib) == (10.0, "a chip", "fp32", None)
    assert (row.epochs_to_converge, row.threads) == (2.0, 2)
    assert store(finished(result={"device": "cuda"})).peak_gib == 1.5


def test_run_must_take_two_epochs_of_its_recipe() -> None:
    run = finished()
    assert store(run).is_long_enough
    run.dataset["train_examples"] = 60_000
    assert (store(run).recipe_steps, store(run).is_long_enough) == (2 * 235, False)


def test_diverged_run_has_no_figures_and_an_unfinished_one_no_row() -> None:
    run = make_record(NAME, {}, 3, state="failed", status={"exit_code": 4})
    row = store(run)
    assert (row.state, row.accuracy, row.epoch_s, row.accuracies) == ("diverged", None, None, "")
    for code in (2, None):
        failed = replace(run, status={"exit_code": code})
        assert store_run(failed, JOB) is None


def test_finished_run_without_files_has_no_row() -> None:
    run = finished()
    run.rows.clear()
    assert store_run(run, JOB) is None
    run = finished()
    del run.result["test_accuracy"]
    assert store_run(run, JOB) is None


def test_row_lacks_the_figures_that_the_files_lack() -> None:
    run = finished()
    for epoch in run.rows:
        epoch.clear()
    row = store(run)
    missing = (row.train_less_test, row.epochs_to_converge, row.test_loss_rise, row.epoch_s)
    assert missing == (None,) * 4


def test_written_runs_are_read_again(tmp_path: Path) -> None:
    runs = [store(finished()), make_run(NAME, {}, 1, None), make_run(NAME, {"a": "x, 'y'"}, 2)]
    write_stored_runs(RunDirectory(tmp_path), "results.csv", runs)
    path = tmp_path / "results.csv"
    assert read_stored_runs(path) == runs
    text = path.read_text()
    write_stored_runs(RunDirectory(tmp_path), "results.csv", read_stored_runs(path))
    assert path.read_text() == text
    assert text.splitlines()[0] == ",".join(StoredRun.__struct_fields__)
    assert read_stored_runs(tmp_path / "none.csv") == []


def test_no_runs_leave_a_header(tmp_path: Path) -> None:
    write_stored_runs(RunDirectory(tmp_path), "results.csv", [])
    assert read_stored_runs(tmp_path / "results.csv") == []


def test_later_run_of_the_same_job_and_chip_replaces_the_earlier() -> None:
    old, other_chip = make_run(NAME, {}, accuracy=0.5), make_run(NAME, {}, accuracy=0.6, chip="b")
    new, more = make_run(NAME, {}, accuracy=0.7), make_run(NAME, {}, 1)
    merged = merge_runs([other_chip, old], [more, new])
    assert merged == [new, other_chip, more]
    assert merge_runs(merged, merged) == merged


@pytest.fixture
def path(tmp_path: Path) -> Path:
    first = make_run(NAME, {}, 0, accuracies="0.1 0.8")
    runs = [first, make_run(NAME, {}, 1, commit="0123abcd")]
    write_stored_runs(RunDirectory(tmp_path), "results.csv", runs)
    return tmp_path / "results.csv"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("claims/x,,1,", '"claims/x,,1,', "Line 2: unexpected end of data"),
        ("experiment,", "experiments,", "Line 1: the columns must be experiment,overrides,seed"),
        (",finished,0.8,", ",finished,0.8x,", "Line 2: accuracy=0.8x is not a number"),
        (",finished,0.8,", ",finished,1.8,", "accuracy=1.8 is out of range. It must be at least 0"),
        (",finished,0.8,", ",finished,,", "Line 2: state=finished: finished runs have an accuracy"),
        (",finished,", ",ended,", "Line 2: state=ended is not known. Allowed: diverged, finished"),
        ("0.1 0.8", "0.1;0.8", "Line 2: accuracies=0.1;0.8 are not numbers with spaces"),
        ("claims/x,,1,", "claims/x,,one,", "Line 3: seed=one is not a whole number"),
        ("claims/x,,1,", "claims/x,1,", "Line 3: it has not 22 values, one for each column"),
        ("claims/x,,1,", 'claims/x,"",,1,', "Line 3: it has not 22 values, one for each column"),
        ("claims/x,,1,", ",,1,", "Line 3: experiment has no value"),
        ("<<<", "", ""),
    ],
)
def test_damaged_file_is_refused_with_line_and_advice(
    path: Path, old: str, new: str, reason: str
) -> None:
    text = path.read_text()
    path.write_text(text.replace(old, new, 1) if reason else f"<<<<<<< HEAD\n{text}")
    with pytest.raises(ConfigError) as raised:
        read_stored_runs(path)
    assert str(raised.value).startswith(f"{path} is damaged. Line ")
    assert reason in str(raised.value)
    assert str(raised.value).endswith("or move it away to begin a new one.")


def test_truncated_file_is_refused_unless_whole_rows_are_lost(path: Path) -> None:
    content = path.read_bytes()
    whole = {place + 1 for place, byte in enumerate(content) if byte == ord("\n")}
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        if length in whole:
            assert len(read_stored_runs(path)) == sorted(whole).index(length)
        else:
            with pytest.raises(ConfigError, match="is damaged"):
                read_stored_runs(path)
