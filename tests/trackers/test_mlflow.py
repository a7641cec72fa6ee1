"""MLflow has what the run directory has, and a server that fails costs one warning."""

import csv
import json
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from forking import ForkServer
from in_process import run_in_process
from installed import NOWHERE, Command
from mlflow_store import read_runs, server
from small_runs import SMALL

from cnnbench import api, config
from cnnbench.trackers import mlflow as mlflow_tracker
from cnnbench.training.resume import resume_command

pytestmark = pytest.mark.skipif(
    find_spec("mlflow") is None,
    reason="the extra mlflow is not installed",
)

TRACKED = (*SMALL, "tracker=mlflow")
Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs are tracked in a local store, the first among files named as MLflow's imports."""
    folder = tmp_path_factory.mktemp("tracked")
    for name in ("html.py", "mlflow.py"):
        (folder / name).write_text("raise SystemExit('not this one')")
    done = run_in_process(*TRACKED, "hydra.run.dir=outputs/run", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    shown = "Tracked by mlflow: mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db\n"
    assert shown in done.stdout
    return folder


def read(folder: Path) -> Found:
    return read_runs(f"sqlite:///{folder}/outputs/mlflow.db")


def columns(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The metrics of metrics.csv, by name."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = rows[0].keys() - {"epoch"}
    return {name: [(int(row["epoch"]), float(row[name])) for row in rows] for name in names}


def test_a_run_has_metrics_final_figures_parameters_tags_and_files(folder: Path) -> None:
    run, found = folder / "outputs" / "run", read(folder)["run"]
    result = json.loads((run / "result.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    metrics = {name: found["metrics"].pop(name) for name in columns(run)}
    assert metrics == columns(run)
    assert len(found["metrics"]) == 7
    assert found["metrics"]["test_loss"] == [(2, result["test_loss"])]
    assert found["metrics"]["best_epoch"] == [(2, result["best"]["epoch"])]
    chosen = {"model.widths": "[8]", "optimizer.lr": "0.01", "data.root": "null"}
    assert found["parameters"].items() > chosen.items()
    assert not any(key.startswith(("tracker", "sweep")) for key in found["parameters"])
    tags = {"run_directory": str(run), "commit": environment["commit"], "device": "cpu"}
    assert found["tags"].items() > tags.items()
    assert (found["experiment"], found["status"], "sweep" in found["tags"]) == (
        "cnnbench",
        "FINISHED",
        False,
    )
    assert found["files"] == ["config.yaml", "curves.png", "result.json"]


@pytest.fixture(scope="module")
def interrupted(forks: ForkServer, folder: Path) -> Path:
    """A run that SIGINT has ended in its second epoch."""
    words = (*TRACKED, "hydra.run.dir=outputs/struck")
    done = forks.run(*words, folder=folder, strikes=[(int(signal.SIGINT), "step", 6)])
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr
    assert read(folder)["struck"]["status"] == "KILLED"
    return folder / "outputs" / "struck"


def test_a_resumed_run_is_the_same_with_each_epoch_once(interrupted: Path, folder: Path) -> None:
    early = Path(shutil.copytree(interrupted / "checkpoints", folder / "early"))
    assert run_in_process("resume", "outputs/struck", folder=folder).returncode == 0
    shutil.rmtree(interrupted / "checkpoints")  # its second epoch is trained, and logged, once more
    shutil.copytree(early, interrupted / "checkpoints")
    for changes in (["train.grad_clip_norm=100"], ["train.epochs=3"]):
        assert run_in_process("resume", "outputs/struck", *changes, folder=folder).returncode == 0
    found = read(folder)["struck"]
    assert found["status"] == "FINISHED"
    assert found["metrics"]["train_loss"] == columns(interrupted)["train_loss"]
    assert found["parameters"]["train.grad_clip_norm"] == "null"
    assert found["tags"]["changed.train.grad_clip_norm"] == "100.0"
    assert not {"changed.train.init", "changed.optimizer.lr"} & found["tags"].keys()


def test_a_copied_directory_begins_a_run_of_its_own(folder: Path) -> None:
    run = Path(shutil.copytree(folder / "outputs" / "run", folder / "outputs" / "copy"))
    before = read(folder)["run"]
    done = run_in_process("resume", "outputs/copy", "train.epochs=3", folder=folder)
    assert (done.returncode, "The tracker" in done.stdout) == (0, False), done
    found = read(folder)
    assert found["run"] == before
    assert found["copy"]["metrics"]["train_loss"] == columns(run)["train_loss"]


def test_what_mlflow_limits_is_made_to_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    parameters: dict[str, Any] = {
        **{f"n{number}": number for number in range(150)},
        "a{ü}'": "x" * 9000,
        "k" * 300: 1,
    }
    rows = [({"epoch": epoch, "train_loss": 0.5}, 0.0) for epoch in range(1, 1101)]
    run = folder / "outputs" / "large"
    run.mkdir()
    client = mlflow_tracker.Client(config.MlflowConfig(), run, parameters, {}, rows)
    client.start()
    client.log_result({"test_loss": 0.25, "train_loss": 0.5}, rows[-1][0])
    found = read(folder)["large"]
    assert found["metrics"]["test_loss"] == [(1100, 0.25)]
    assert (len(found["parameters"]), len(found["metrics"]["train_loss"])) == (152, 1100)
    assert (found["parameters"]["a_ü__"], found["parameters"]["k" * 240]) == ("x" * 6000, "1")


def test_experiments_of_other_runs_are_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(folder)
    answers = [None, MlflowClient(f"sqlite:///{folder}/outputs/mlflow.db").get_experiment("1")]
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda *_: answers.pop(0))
    run = folder / "outputs" / "late"
    run.mkdir()
    mlflow_tracker.Client(config.MlflowConfig(), run, {}, {}, []).start()
    assert read(folder)["late"]["experiment"] == "cnnbench"


@pytest.mark.slow
def test_jobs_that_start_at_once_share_a_new_store(forks: ForkServer, tmp_path: Path) -> None:
    words = ("-m", *TRACKED, "tracker.mlflow.experiment=mine", "train.epochs=1", "sweep=s")
    commands = [forks.start(*words, f"seed={seed}", folder=tmp_path) for seed in (0, 1)]
    for done in (command.wait() for command in commands):
        assert (done.returncode, "The tracker" in done.stdout) == (0, False), done
    found = read(tmp_path)
    assert sorted(run["parameters"]["seed"] for run in found.values()) == ["0", "1"]
    assert {(run["tags"]["sweep"], run["experiment"]) for run in found.values()} == {("s", "mine")}
    assert not any("tracker" in name for name in found)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"TIMEOUT": "1", "MAX_RETRIES": "0"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{key}", value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("of_environment", [False, True])
def test_a_server_that_refuses_is_one_warning(
    of_environment: bool, within: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE if of_environment else "http://theirs")
    choice = [] if of_environment else [f"tracker.mlflow.uri={NOWHERE}"]
    done = within(*TRACKED, *choice, "train.epochs=1", "hydra.run.dir=run")
    assert (done.returncode, done.stderr) == (0, "")
    log = (tmp_path / "run" / "train.log").read_text().splitlines()
    (warning,) = (line for line in log if " WARNING " in line)
    assert "The tracker mlflow failed at the start" in warning
    assert warning.endswith("ConnectionRefusedError: [Errno 111] Connection refused")


@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_answers_is_one_warning(silent: str, within: Command) -> None:
    threads = threading.active_count()
    done = within(*TRACKED, f"tracker.mlflow.uri={silent}", "train.epochs=1", "hydra.run.dir=run")
    assert (done.returncode, done.stderr, done.stdout.count("The tracker mlflow failed")) == (
        0,
        "",
        1,
    )
    assert threading.active_count() <= threads + 1  # of tqdm


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_server_has_the_run_until_it_is_killed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("WARNING")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with ExitStack() as running:
        uri = running.enter_context(server(tmp_path))
        words = (*TRACKED, f"tracker.mlflow.uri={uri}")
        api.train(*words, "data.validation=0", directory=tmp_path / "run")
        found = read_runs(uri)["run"]
        assert (found["status"], found["files"]) == (
            "FINISHED",
            ["config.yaml", "curves.png", "result.json"],
        )
        metrics = {name: found["metrics"][name] for name in columns(tmp_path / "run")}
        assert (metrics, caplog.messages) == (columns(tmp_path / "run"), [])
        assert not (tmp_path / "outputs").exists()
        api.train(*words, on_epoch=lambda row: running.close(), directory=tmp_path / "other")
    assert capsys.readouterr() == ("", "")
    (warning,) = caplog.messages
    assert warning.startswith("The tracker mlflow failed at epoch 2, and the run goes on")


def test_the_command_to_resume_names_server_and_account_again(folder: Path) -> None:
    values = config.parse((folder / "outputs" / "run" / "config.yaml").read_text())
    targets = {"tracker.mlflow.uri": "http://127.0.0.1:5000", "tracker.wandb.entity": "us"}
    settings = config.apply_overrides(values, {"tracker": ["mlflow", "wandb"], **targets})
    words = " ".join(f"{key}={value}" for key, value in targets.items())
    assert resume_command(Path("run"), settings) == f"cnnbench resume run {words}"
