"""`cnnbench resume` on finished runs and sweeps: no training, longer training, refused changes."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers.command import TINY
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process

from cnnbench import config

JOB = (
    *TINY,
    "augment=hflip_translate",
    "train.ema_decay=0.9",
    "optimizer=adam",
    "scheduler=constant",
)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of 3 epochs extended to 5, and a run of 5 epochs."""
    folder = tmp_path_factory.mktemp("extended")
    commands = [
        (*JOB, "train.epochs=5", "hydra.run.dir=straight"),
        (*JOB, "train.epochs=3", "hydra.run.dir=run"),
        ("resume", "run", "train.epochs=5"),
    ]
    for command in commands:
        done = run_in_process(*command, folder=folder)
        assert done.returncode == 0, done.stderr
    return folder


def content(run: Path) -> dict[Path, bytes]:
    """Return the content of all files except the lock and those that Hydra writes."""
    paths = (path for path in run.rglob("[!.]*") if path.is_file() and path.parent.name != ".hydra")
    return {path: path.read_bytes() for path in paths}


def recorded(run: Path, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / name).read_text())
    return values


def test_extended_run_equals_a_run_of_that_length(extended: Path) -> None:
    assert find_differences(extended / "run", extended / "straight") == []


def test_extended_run_records_its_final_epochs(extended: Path) -> None:
    values = config.parse((extended / "run" / "config.yaml").read_text())
    assert values["train"]["epochs"] == 5


def test_environment_records_where_the_run_was_resumed(extended: Path) -> None:
    (where,) = recorded(extended / "run", "environment.json")["continued"]
    assert (where["epoch"], where["step"], where["changes"]) == (3, 0, {"train.epochs": 5})
    assert where["command"] == "cnnbench resume run train.epochs=5"


def test_result_is_of_the_last_epoch(extended: Path) -> None:
    assert recorded(extended / "run", "result.json")["final"]["epoch"] == 5


def test_resuming_a_finished_run_writes_nothing(extended: Path) -> None:
    before = content(extended / "run")
    done = run_in_process("resume", "run", folder=extended)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Resuming run ...\nrun is finished with a test accuracy of 0.")
    assert "train.epochs=10 would train it longer" in done.stdout
    assert content(extended / "run") == before


@pytest.mark.parametrize(
    "change", ["train.epochs=2", "seed=1", "optimizer=sgd", "model.width=3", "train.epochs=0"]
)
def test_refused_change_writes_nothing(extended: Path, change: str) -> None:
    before = content(extended / "run")
    done = run_in_process("resume", "run", change, folder=extended)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"cnnbench: {change.partition('=')[0]}")
    assert "Traceback" not in done.stderr
    assert content(extended / "run") == before


def test_killed_extension_resumes_as_an_extension(
    forks: ForkServer, extended: Path, tmp_path: Path
) -> None:
    done = [
        run_in_process(*JOB, "train.epochs=3", "hydra.run.dir=run", folder=tmp_path),
        forks.run(
            "resume",
            "run",
            "train.epochs=5",
            folder=tmp_path,
            faults=[(signal.SIGKILL, "step", 12)],
        ),
        run_in_process("resume", "run", folder=tmp_path),
    ]
    errors = [process.stderr for process in done]
    assert [process.returncode for process in done] == [0, -signal.SIGKILL, 0], errors
    assert find_differences(tmp_path / "run", extended / "straight") == []


SWEEP = ("-m", *JOB, "seed=0,1", "sweep=twice")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished sweep."""
    folder = tmp_path_factory.mktemp("sweep")
    done = run_in_process(*SWEEP, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_repeating_a_finished_sweep_trains_nothing(sweep: Path) -> None:
    done = run_in_process(*SWEEP, folder=sweep)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 jobs finished already." in done.stdout
    assert "examples/s" not in done.stdout


def test_resuming_a_finished_sweep_trains_nothing(sweep: Path) -> None:
    done = run_in_process("resume", "outputs/sweeps/twice", folder=sweep)
    assert (done.returncode, "2 of 2 jobs finished already." in done.stdout) == (0, True), done


def test_sweep_with_a_taken_name_reports_the_differences(sweep: Path, tmp_path: Path) -> None:
    # A directory is named after the overrides of its job, so only a file of the user can change.
    (tmp_path / "experiment").mkdir()
    mine = tmp_path / "experiment" / "mine.yaml"
    job = ("--config-dir", str(tmp_path), "-m", "experiment=mine", "sweep=mine")
    text = "# @package _global_\ndefaults: [smoke]\ntrain: {label_smoothing: 0.%d}\n"
    mine.write_text(text % 1)
    assert run_in_process(*job, folder=sweep).returncode == 0
    mine.write_text(text % 2)
    (run,) = (sweep / "outputs" / "sweeps" / "mine").glob("*/")
    before = content(run)
    done = run_in_process(*job, folder=sweep)
    assert done.returncode == 2
    assert (
        "holds a run with other values: train.label_smoothing=0.1 instead of 0.2. " in done.stderr
    )
    assert content(run) == before
