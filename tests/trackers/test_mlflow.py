"""What is special to MLflow: stores, its limits, and servers that fail."""

import json
import shutil
import socket
import threading
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from forking import ForkServer
from in_process import run_in_process
from installed import NOWHERE, Command
from small_runs import SMALL
from tracked import read_mlflow, read_recorded, server

from cnnbench import api, config
from cnnbench.trackers.mlflow import Client
from cnnbench.training.resume import resume_command

pytestmark = pytest.mark.skipif(
    find_spec("mlflow") is None,
    reason="the extra mlflow is not installed",
)

TRACKED = (*SMALL, "tracker=mlflow", "hydra.run.dir=run")
FILES = ["config.yaml", "curves.png", "result.json"]


def read(folder: Path) -> dict[str, dict[str, Any]]:
    return read_mlflow(f"sqlite:///{folder}/outputs/mlflow.db")


def test_a_run_has_parameters_tags_files_and_what_was_changed(tracked: Path) -> None:
    found = read(tracked.parent)["run"]
    assert (found["experiment"], found["status"]) == ("cnnbench", "FINISHED")
    assert found["files"] == FILES
    chosen = {"model.widths": "[8]", "optimizer.lr": "0.01", "data.root": "null"}
    assert found["parameters"].items() > (chosen | {"train.epochs": "2"}).items()
    assert not any(key.startswith(("tracker", "sweep")) for key in found["parameters"])
    environment = json.loads((tracked / "environment.json").read_text())
    tags = {"run_directory": str(tracked), "host": environment["host"], "device": "cpu"}
    assert found["tags"].items() > (tags | {"changed.train.epochs": "3"}).items()
    assert not {"sweep", "changed.train.init", "changed.optimizer.lr"} & found["tags"].keys()


def test_a_copied_directory_begins_a_run_of_its_own(tracked: Path) -> None:
    folder = tracked.parent
    copy = Path(shutil.copytree(tracked, folder / "copy"))
    before = read(folder)["run"]
    words = ("resume", "copy", "tracker=mlflow", "train.epochs=4")
    done = run_in_process(*words, folder=folder)
    assert (done.returncode, "The tracker" in done.stdout) == (0, False), done
    found = read(folder)
    assert found["run"] == before
    assert found["copy"]["points"] == read_recorded(copy)


@pytest.fixture
def directory(tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory whose name is in no store, where the store of `tracked` is used."""
    monkeypatch.chdir(tracked.parent)
    return tmp_path


def test_what_mlflow_limits_is_made_to_fit(directory: Path) -> None:
    parameters: dict[str, Any] = {f"n{number}": number for number in range(150)}
    parameters |= {"a{ü}'": "x" * 9000, "k" * 300: 1}
    rows = [({"epoch": epoch, "train_loss": 0.5}, 0.0) for epoch in range(1, 1101)]
    client = Client(config.MlflowConfig(), directory, parameters, {}, rows)
    client.start()
    client.log_result({"test_loss": 0.25, "train_loss": 0.5}, rows[-1][0])
    found = read(Path())[directory.name]
    losses = [("train_loss", epoch, 0.5) for epoch in range(1, 1101)]
    assert found["points"] == [("test_loss", 1100, 0.25), *losses]
    assert len(found["parameters"]) == 152
    assert (found["parameters"]["a_ü__"], found["parameters"]["k" * 240]) == ("x" * 6000, "1")


def test_an_experiment_of_others_is_used(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    answers = [None, MlflowClient("sqlite:///outputs/mlflow.db").get_experiment("1")]
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda *_: answers.pop(0))
    Client(config.MlflowConfig(), directory, {}, {}, []).start()
    assert read(Path())[directory.name]["experiment"] == "cnnbench"


@pytest.mark.slow
def test_jobs_that_start_at_once_share_a_new_store(forks: ForkServer, tmp_path: Path) -> None:
    words = ("-m", *SMALL, "tracker=mlflow", "tracker.mlflow.experiment=mine", "sweep=s")
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


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("of_environment", [False, True])
def test_a_server_that_refuses_is_one_warning(
    of_environment: bool, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE if of_environment else "http://theirs")
    choice = [] if of_environment else [f"tracker.mlflow.uri={NOWHERE}"]
    done = within(*TRACKED, *choice, "train.epochs=1")
    assert (done.returncode, done.stderr) == (0, "")
    log = Path("run/train.log").read_text().splitlines()
    (warning,) = (line for line in log if " WARNING " in line)
    assert "The tracker mlflow failed at the start" in warning
    assert warning.endswith("ConnectionRefusedError: [Errno 111] Connection refused")


@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_answers_is_one_warning(within: Command) -> None:
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}"
        done = within(*TRACKED, f"tracker.mlflow.uri={uri}", "train.epochs=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("The tracker mlflow failed") == 1
    assert threading.active_count() <= threads + 1  # of tqdm


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_server_has_the_run_until_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with ExitStack() as running:
        uri = running.enter_context(server(tmp_path))
        words = (*SMALL, "tracker=mlflow", f"tracker.mlflow.uri={uri}")
        api.train(*words, directory=tmp_path / "run")
        found = read_mlflow(uri)["run"]
        assert (found["status"], found["files"]) == ("FINISHED", FILES)
        assert (found["points"], caplog.messages) == (read_recorded(tmp_path / "run"), [])
        assert not (tmp_path / "outputs").exists()
        api.train(*words, on_epoch=lambda row: running.close(), directory=tmp_path / "other")
    (warning,) = caplog.messages
    assert warning.startswith("The tracker mlflow failed at epoch 2, and the run goes on")


def test_the_command_to_resume_names_server_and_account_again(tracked: Path) -> None:
    values = config.parse((tracked / "config.yaml").read_text())
    targets = {"tracker.mlflow.uri": "http://127.0.0.1:5000", "tracker.wandb.entity": "us"}
    settings = config.apply_overrides(values, {"tracker": ["mlflow", "wandb"], **targets})
    words = " ".join(f"{key}={value}" for key, value in targets.items())
    assert resume_command(Path("run"), settings) == f"cnnbench resume run {words}"
