"""The argument that names a run: `latest`, and folders of several runs."""

import argparse
import importlib
import json
import shutil
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.small_runs import Runs

from cnnbench.cli.main import RUN_DIRECTORY_COMMANDS
from cnnbench.runs.directory import claim

JOB = Path("outputs/sweeps/rates/seed=1")
SINGLE = Path("outputs/mlp-sample-28px/2026-11-24_10-00-00")


def put(runs: Runs, path: Path, began: str, state: str = "finished", verb: str = "train") -> None:
    """Copy a run to a path; let it begin at a time of this day and end the next day."""
    runs.copy(state, path)
    status = json.loads((path / "status.json").read_text())
    times = {"began": f"2026-11-24T{began}.000+00:00", "since": f"2026-11-25T{began}.000+00:00"}
    (path / "status.json").write_text(json.dumps({**status, **times, "verb": verb}))


@pytest.fixture
def _outputs(runs: Runs, tmp_path: Path) -> None:
    """Make a sweep's job, which began last, two single runs, and directories that are not runs."""
    put(runs, tmp_path / SINGLE, "10:00:00")
    put(runs, tmp_path / JOB, "12:00:00")
    put(runs, tmp_path / SINGLE.with_name("resumed"), "11:00:00", "in_first_epoch")
    put(runs, tmp_path / "outputs/benchmarks/lenet/now", "13:00:00", verb="benchmark")
    put(runs, tmp_path / "elsewhere", "14:00:00")
    (tmp_path / "outputs/linked").symlink_to(tmp_path / "elsewhere")


@pytest.mark.usefixtures("_outputs")
@pytest.mark.parametrize(
    "line",
    ["evaluate latest", "predict latest a.png", "inspect latest", "export latest --format onnx"],
)
def test_latest_is_the_training_run_that_began_last(
    line: str, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def read_directory(options: argparse.Namespace, conf: Path) -> None:
        read.append(options.directory)

    command, *words = line.split()
    monkeypatch.setattr(
        importlib.import_module(f"cnnbench.commands.{command}"), "run", read_directory
    )
    done = within(command, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"cnnbench: latest is {JOB}\n")
    assert read == [JOB]


@pytest.mark.usefixtures("_outputs")
def test_report_and_resume_take_the_latest_job_not_its_sweep(within: Command) -> None:
    done = within("resume", "latest")
    assert done.stdout.startswith(f"Resuming {JOB} ...\n{JOB} is finished")
    assert done.stderr == f"cnnbench: latest is {JOB}\n"
    done = within("report", "latest", str(SINGLE))
    assert "2 runs: 2 finished" in done.stdout


@pytest.mark.usefixtures("_outputs")
def test_resuming_does_not_make_a_run_the_latest(within: Command, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / JOB)
    resumed = SINGLE.with_name("resumed")
    assert within("resume", str(SINGLE), "train.epochs=3").returncode == 0
    done = within("resume", "latest")
    assert (done.returncode, done.stderr) == (0, f"cnnbench: latest is {resumed}\n")
    assert done.stdout.splitlines()[0] == f"Resuming {resumed} ..."


@pytest.mark.usefixtures("_outputs")
def test_folder_named_latest_takes_precedence(runs: Runs, within: Command, tmp_path: Path) -> None:
    runs.copy("in_first_epoch", tmp_path / "latest")
    done = within("evaluate", "latest")
    assert (done.returncode, done.stderr) == (0, "")
    assert "last.pt, epoch 0" in done.stdout


@pytest.mark.parametrize("command", [*RUN_DIRECTORY_COMMANDS, "resume", "again", "report"])
def test_latest_without_any_run_is_an_error(command: str, within: Command, tmp_path: Path) -> None:
    words = ["latest", *(["a.png"] if command == "predict" else [])]
    message = "cnnbench: There is no run under outputs/ here. Train one first: cnnbench\n"
    for _ in range(2):
        done = within(command, *words)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
        (tmp_path / "outputs" / "empty").mkdir(parents=True, exist_ok=True)


@pytest.mark.usefixtures("_outputs")
def test_error_names_a_latest_run_that_cannot_be_loaded(within: Command, tmp_path: Path) -> None:
    running = claim(tmp_path / "outputs" / "begun")
    assert running is not None
    named = "cnnbench: latest is outputs/begun\ncnnbench: outputs/begun"
    done = within("evaluate", "latest")
    assert (done.returncode, done.stderr.partition(" has no checkpoint")[0]) == (5, named)
    done = within("resume", "latest")
    assert (done.returncode, done.stderr.startswith(named)) == (2, True), done.stderr
    running.set_status("failed", error="x", exit_code=4)
    running.release()
    done = within("evaluate", "latest")
    assert (done.returncode, done.stderr.partition(" has no checkpoint")[0]) == (5, named)


@pytest.mark.usefixtures("_outputs")
@pytest.mark.parametrize(
    ("command", "folder", "number", "newest", "is_latest"),
    [
        ("evaluate", "outputs", "3 runs", JOB, True),
        ("export", "outputs/sweeps/rates", "1 run", JOB, True),
        ("inspect", SINGLE.parent, "2 runs", SINGLE.with_name("resumed"), False),
        ("resume", "outputs", "3 runs", JOB, True),
        ("again", "outputs/sweeps/rates", "1 run", JOB, True),
    ],
)
def test_folder_of_runs_suggests_the_newest(
    command: str, folder: str, number: str, newest: Path, is_latest: bool, within: Command
) -> None:
    done = within(command, str(folder))
    offer = f"cnnbench {command} {newest}{' (or: latest)' * is_latest}"
    message = f"cnnbench: {folder} holds {number}. The newest is {newest}: {offer}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
