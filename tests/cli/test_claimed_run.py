"""The directories that a single run claims or refuses."""

import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from helpers.command import TINY, Command, clean_environment
from helpers.compare_runs import find_differences
from helpers.small_runs import BETWEEN, SMALL, Runs, read_files

from cnnbench.runs.directory import LOCK, claim_exactly
from cnnbench.runs.lock import Lock
from cnnbench.runs.reading import find_figure, list_runs, read_json, read_status

REFUSED = "'.' already exists and is not an empty folder. Name another directory"


@pytest.mark.parametrize(
    "arguments",
    [("hydra.run.dir=.",), ("benchmark", "hydra.run.dir=."),
     ("-m", "seed=0,1", "hydra.sweep.dir=."),
     ("-m", "seed=0,1", "hydra.sweep.dir=.", "hydra/sweeper=basic"),
     ("benchmark", "-m", "seed=0,1", "hydra.sweep.dir=.")],
    ids=" ".join,
)  # fmt: skip
def test_folder_with_other_files_is_refused_and_unchanged(
    within: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "notes").touch()
    done = within(*arguments, *SMALL)
    assert (done.returncode, REFUSED in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_run_or_sweep_uses_an_empty_folder(within: Command, tmp_path: Path) -> None:
    for name in ("run", "sweep"):
        (tmp_path / name).mkdir()
    assert within(*SMALL, "hydra.run.dir=run").returncode == 0
    sweep = ("-m", *SMALL, "seed=0", "hydra.sweep.dir=sweep")
    assert within(*sweep).returncode == 0
    assert "1 of 1 job finished already." in within(*sweep).stdout


@pytest.mark.slow
def test_five_concurrent_runs_get_five_directories(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cnnbench", *TINY], cwd=tmp_path, env=clean_environment(tmp_path)
        )
        for _ in range(5)
    ]
    assert [process.wait(timeout=240) for process in processes] == [0] * 5
    assert len(list(tmp_path.rglob("result.json"))) == 5


@pytest.mark.parametrize(
    "words", [["experiment=book/lenet"], ["experiment=claims/relu_lenet", "model=lenet"]], ids=str
)
def test_single_run_of_an_experiment_needs_values_for_its_swept_keys(
    within: Command, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("cnnbench.training.preflight.check", lambda *_, **__: None)
    monkeypatch.setattr("cnnbench.cli.compose.train_job", lambda *_, **__: 0.0)
    done = within(*words)
    assert done.returncode == 0, done.stderr


def test_error_names_an_output_folder_that_cannot_be_created(
    cnnbench: Command, tmp_path: Path
) -> None:
    (tmp_path / "outputs").write_text("a file where the folder should be")
    done = cnnbench(*TINY)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "hydra.run.dir=DIR" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_error_names_an_output_folder_without_write_permission(
    cnnbench: Command, tmp_path: Path
) -> None:
    (tmp_path / "outputs").mkdir(mode=0o555)
    done = cnnbench(*TINY)
    assert done.returncode == 2
    assert "Permission denied" in done.stderr


def test_a_directory_that_holds_a_run_is_refused(cnnbench: Command, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "status.json").write_text("{}")
    done = cnnbench("benchmark", *TINY, f"hydra.run.dir={taken}")
    assert done.returncode == 2
    assert "already holds a run" in done.stderr
    assert [path.name for path in taken.iterdir()] == ["status.json"]


def test_same_command_resumes_an_unfinished_run(
    within: Command, runs: Runs, tmp_path: Path
) -> None:
    run = runs.copy(BETWEEN, tmp_path / "run")
    done = within(*SMALL, "hydra.run.dir=run")
    assert (done.returncode, "Resumes after 1 epoch and" in done.stdout) == (0, True), done
    assert find_differences(run, runs.uninterrupted(BETWEEN)) == []
    assert read_status(run)["state"] == "finished"


def test_same_command_reports_a_finished_run_and_changes_nothing(
    within: Command, finished_run: Path
) -> None:
    before = read_files(finished_run)
    accuracy = find_figure(read_json(finished_run / "result.json"), "test_accuracy")
    done = within(*SMALL, "hydra.run.dir=run", "tracker=tensorboard")  # a tracker is bookkeeping
    report = f"run is finished with a test accuracy of {accuracy:.4f}. Nothing to do.\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, report, "")
    assert read_files(finished_run) == before


def test_same_command_measures_a_finished_run_without_its_result(
    within: Command, runs: Runs, finished_run: Path
) -> None:
    (finished_run / "result.json").unlink()
    assert within(*SMALL, "hydra.run.dir=run").returncode == 0
    assert find_differences(finished_run, runs.uninterrupted(BETWEEN)) == []


@pytest.mark.parametrize("state", [BETWEEN, "finished"])
def test_other_configuration_is_refused_and_changes_nothing(
    state: str, within: Command, runs: Runs, tmp_path: Path
) -> None:
    run = runs.copy(state, tmp_path / "run")
    before = read_files(run)
    done = within(*SMALL, "seed=1", "train.epochs=3", "hydra.run.dir=run")
    assert done.returncode == 2
    assert done.stderr == (
        "cnnbench: run already holds a run with other values: train.epochs=2 instead of 3, seed=0 "
        "instead of 1. Name another place (hydra.run.dir=DIR or sweep=NAME), or delete it to run "
        "it anew.\nTo resume with its own values: cnnbench resume run\n"
    )
    assert read_files(run) == before


@pytest.mark.parametrize("status", ["", "{", '{"state": "running", "verb": "train"}'])
def test_run_killed_before_its_first_checkpoint_starts_over(
    status: str, within: Command, runs: Runs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "status.json").write_text(status)  # killed while it claimed the directory, or after
    done = within(*SMALL, "hydra.run.dir=run")
    assert (done.returncode, "training starts from the beginning" in done.stdout) == (0, True), done
    assert find_differences(run, runs.uninterrupted(BETWEEN)) == []
    assert list_runs(tmp_path) == [run]
    assert datetime.fromisoformat(read_status(run)["began"])


def test_run_of_another_command_is_refused(within: Command, tmp_path: Path) -> None:
    claim_exactly(tmp_path / "run", "benchmark").release()
    done = within(*SMALL, "hydra.run.dir=run")
    message = "run is not a training run: cnnbench benchmark created it."
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_running_run_is_refused(within: Command, runs: Runs, tmp_path: Path) -> None:
    lock = Lock(runs.copy(BETWEEN, tmp_path / "run") / LOCK)
    assert lock.acquire()
    done = within(*SMALL, "hydra.run.dir=run")
    lock.release()
    message = f"cnnbench: run is in use: process {os.getpid()} on {socket.gethostname()} writes"
    assert (done.returncode, done.stderr.startswith(message)) == (2, True), done.stderr


def test_running_run_is_refused_on_a_file_system_without_locks(
    within: Command, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", raise_no_locks)
    run = runs.copy(BETWEEN, tmp_path / "run")
    running = {"state": "running", "verb": "train", "pid": 7, "host": "gauss"}
    (run / "status.json").write_text(json.dumps(running))
    before = read_files(run)
    done = within(*SMALL, "hydra.run.dir=run")
    assert done.returncode == 2
    assert "is in use, as far as status.json says: by process 7 on gauss." in done.stderr
    assert read_files(run) == before
    (command,) = re.findall(r"If that has ended: cnnbench (.*)$", done.stderr, re.MULTILINE)
    assert within(*command.split()).returncode == 0
    assert find_differences(run, runs.uninterrupted(BETWEEN)) == []


def raise_no_locks(descriptor: int, kind: int) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_diverged_run_is_resumed_from_its_checkpoint(within: Command, tmp_path: Path) -> None:
    job = (*SMALL, "optimizer.lr=1e30", "hydra.run.dir=run")
    assert within(*job).returncode == 4
    done = within(*job)
    assert (done.returncode, read_status(tmp_path / "run")["state"]) == (4, "failed"), done.stderr
    assert "already holds" not in done.stderr


def test_link_out_of_the_run_is_refused_and_not_followed(
    within: Command, runs: Runs, tmp_path: Path
) -> None:
    run = runs.copy(BETWEEN, tmp_path / "run")
    (tmp_path / "mine").write_text("kept")
    (run / "train.log").unlink()
    (run / "train.log").symlink_to(tmp_path / "mine")
    done = within(*SMALL, "hydra.run.dir=run")
    assert (done.returncode, "a link that leads out of run" in done.stderr) == (2, True)
    assert (tmp_path / "mine").read_text() == "kept"


def test_directory_without_a_name_is_always_new(within: Command, tmp_path: Path) -> None:
    for _ in range(2):
        assert within(*SMALL).returncode == 0
    assert len(list(tmp_path.glob("outputs/*/*/result.json"))) == 2
