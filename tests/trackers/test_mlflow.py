"""MLflow: its stores, its limits, and servers that fail."""

import getpass
import json
import socket
import sys
import threading
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import pytest
from helpers.command import Command
from helpers.fork_server import ForkServer
from helpers.small_runs import SMALL
from helpers.tracker_contents import read_mlflow, read_recorded, run_mlflow_server

from cnnbench import api, config
from cnnbench.cli.hydra_app import compose_config
from cnnbench.config import MlflowConfig
from cnnbench.runs.directory import resume_command
from cnnbench.trackers.base import Rows
from cnnbench.trackers.mlflow import Client

needs_mlflow = pytest.mark.skipif(
    find_spec("mlflow") is None,
    reason="the extra mlflow is not installed",
)

TRACKED = (*SMALL, "tracker=mlflow", "hydra.run.dir=run")
FILES = ["config.yaml", "curves.png", "result.json"]
ROWS = [({"epoch": epoch, "train_loss": 0.5, "lr": 0.1}, epoch + 0.25) for epoch in (1, 2)]


class FakeError(Exception):
    error_code = "RESOURCE_ALREADY_EXISTS"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mock:
    """Replace MLflow's client by a mock, whose server has an experiment and no run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client, pairs = Mock(), lambda *values: values
    client.get_experiment_by_name.return_value.experiment_id = "7"
    client.search_runs.return_value = []
    client.create_run.return_value = make_run("a-2")
    client.get_metric_history.return_value = []
    entities = SimpleNamespace(Param=pairs, RunTag=pairs, Metric=pairs)
    tracking = SimpleNamespace(MlflowClient=Mock(return_value=client))
    client.opened = tracking.MlflowClient
    exceptions = SimpleNamespace(MlflowException=FakeError)
    modules = {"entities": entities, "exceptions": exceptions, "tracking": tracking}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"mlflow.{name}", module)
    return client


def make_run(run_id: str, **tags: str) -> Any:
    known = {"seed": "0", "train.epochs": "2", "optimizer.lr": "0.1"}
    data = SimpleNamespace(params=known, tags=tags)
    return SimpleNamespace(info=SimpleNamespace(run_id=run_id), data=data)


def start(directory: Path, rows: Rows = (), **settings: Any) -> Client:
    parameters = {"seed": 0, "train.epochs": 3, "optimizer.lr": 0.1, "model": "mlp"}
    tags = {"run_directory": str(directory), "host": "here"}
    tracker = Client(MlflowConfig(**settings), directory, parameters, tags, rows)
    tracker.place = tracker.start()
    return tracker


def test_runs_of_a_folder_share_a_store(client: Mock, tmp_path: Path) -> None:
    client.get_experiment_by_name.side_effect = [None, Mock(experiment_id="8")]
    tracker = start(tmp_path)
    assert tracker.place == "mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db"
    client.opened.assert_called_once_with(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    artifacts = f"file://{tmp_path}/outputs/mlruns"
    client.create_experiment.assert_called_once_with("cnnbench", artifacts)
    client.create_run.assert_called_once_with("8", run_name=tmp_path.name)
    assert (tmp_path / "outputs" / ".mlflow.lock").exists()
    client.get_experiment_by_name.side_effect = None
    assert start(tmp_path).place == tracker.place


@pytest.mark.parametrize("of_environment", [False, True])
def test_server_is_from_configuration_or_environment(
    of_environment: bool, client: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there" if of_environment else "http://theirs")
    tracker = start(tmp_path, uri=None if of_environment else "http://there", experiment="mine")
    assert tracker.place == "http://there"
    client.opened.assert_called_once_with("http://there")
    assert {asked.args for asked in client.get_experiment_by_name.call_args_list} == {("mine",)}
    client.create_experiment.assert_not_called()
    assert not (tmp_path / "outputs").exists()


def test_experiment_created_by_another_run_is_used(
    client: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_experiment.side_effect = FakeError
    client.get_experiment_by_name.side_effect = [None, Mock(experiment_id="8")]
    start(tmp_path)
    assert client.create_run.call_args.args == ("8",)
    client.get_experiment_by_name.side_effect = [None]
    monkeypatch.setattr(FakeError, "error_code", "PERMISSION_DENIED")
    with pytest.raises(FakeError):
        start(tmp_path)


def test_resumed_run_has_changed_values_as_tags(client: Mock, tmp_path: Path) -> None:
    start(tmp_path)
    assert json.loads((tmp_path / "mlflow.json").read_text()) == {"run_id": "a-2"}
    changed = {"changed.optimizer.lr": "0.2"}
    client.search_runs.return_value = [make_run("a-2", run_directory=str(tmp_path), **changed)]
    client.reset_mock()
    tracker = start(tmp_path)
    client.search_runs.assert_called_once_with(["7"], "attributes.run_id = 'a-2'")
    client.create_run.assert_not_called()
    client.update_run.assert_called_once_with("a-2", status="RUNNING")
    tags = [*tracker.tags.items(), ("mlflow.user", getpass.getuser())]
    tags += [("changed.train.epochs", "3"), ("changed.optimizer.lr", "0.1")]
    (first,) = client.log_batch.call_args_list
    assert first == call("a-2", params=[("model", "mlp")], tags=tags)


def test_copied_directory_begins_another_run(client: Mock, tmp_path: Path) -> None:
    client.search_runs.return_value = [make_run("a-1", run_directory="elsewhere")]
    (tmp_path / "mlflow.json").write_text('{"run_id": "a-1"}')
    start(tmp_path)
    assert client.update_run.call_args.args == ("a-2",)
    assert json.loads((tmp_path / "mlflow.json").read_text()) == {"run_id": "a-2"}


def test_known_epoch_is_not_logged_again(client: Mock, tmp_path: Path) -> None:
    client.get_metric_history.return_value = [Mock(step=1, value=0.5), Mock(step=2, value=0.6)]
    start(tmp_path, ROWS)
    client.get_metric_history.assert_called_once_with("a-2", "train_loss")
    metrics = client.log_batch.call_args.kwargs["metrics"]
    assert sorted(metrics) == [("lr", 0.1, 2250, 2), ("train_loss", 0.5, 2250, 2)]


def test_known_step_is_not_logged_again(client: Mock, tmp_path: Path) -> None:
    client.get_metric_history.return_value = [Mock(step=1, value=0.5)]
    steps = [({"step": step, "epoch": step / 4, "train_loss": 0.5}, 0.25) for step in (1, 2)]
    tracker = Client(MlflowConfig(), tmp_path, {}, {}, [], steps)
    tracker.start()
    metrics = client.log_batch.call_args.kwargs["metrics"]
    assert metrics == [("steps/train_loss", 0.5, 250, 2)]


def test_many_metrics_are_sent_in_several_requests(client: Mock, tmp_path: Path) -> None:
    start(tmp_path)
    tracker = start(tmp_path)
    client.log_batch.reset_mock()
    tracker.log_steps([({"step": step, "train_loss": 0.5}, 0.25) for step in range(2001)])
    sent = [logged.kwargs["metrics"] for logged in client.log_batch.call_args_list]
    assert [len(metrics) for metrics in sent] == [1000, 1000, 1]


def test_run_ends_with_figures_and_files(client: Mock, tmp_path: Path) -> None:
    tracker = start(tmp_path)
    tracker.log_result({"test_loss": 0.25, "train_loss": 0.5}, ROWS[-1][0])
    client.log_metric.assert_called_once_with("a-2", "test_loss", 0.25, step=2)
    (tmp_path / "curves.png").touch()
    for state in ("finished", "failed", "interrupted"):
        tracker.end(state)
    states = [ended.args for ended in client.set_terminated.call_args_list]
    assert states == [("a-2", state) for state in ("FINISHED", "FAILED", "KILLED")]
    logged = {logged.args for logged in client.log_artifact.call_args_list}
    assert logged == {("a-2", str(tmp_path / "curves.png"))}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    return read_mlflow(f"sqlite:///{folder}/outputs/mlflow.db")


@pytest.mark.slow
def test_run_has_parameters_tags_and_files(tracked_by_all: Path) -> None:
    found = read(tracked_by_all.parent)["run"]
    assert (found["experiment"], found["status"]) == ("cnnbench", "FINISHED")
    assert found["files"] == FILES
    chosen = {"model.widths": "[8]", "optimizer.lr": "0.01", "data.root": "null"}
    assert found["parameters"].items() > (chosen | {"train.epochs": "2"}).items()
    assert not any(key.startswith(("tracker", "sweep")) for key in found["parameters"])
    environment = json.loads((tracked_by_all / "environment.json").read_text())
    tags = {"run_directory": str(tracked_by_all), "host": environment["host"], "device": "cpu"}
    assert found["tags"].items() > (tags | {"changed.train.epochs": "3"}).items()
    assert not {"sweep", "changed.train.init", "changed.optimizer.lr"} & found["tags"].keys()


@pytest.mark.slow
@needs_mlflow
def test_parallel_jobs_share_a_new_store(forks: ForkServer, tmp_path: Path) -> None:
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


@pytest.mark.slow
@needs_mlflow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("is_there", "reason"), [(True, "time"), (False, "Connection refused")])
def test_unreachable_server_gives_one_warning(
    is_there: bool,
    reason: str,
    within: Command,
) -> None:
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if not is_there:
            listening.close()
        done = within(*TRACKED, f"tracker.mlflow.uri={uri}", "train.epochs=1")
    assert (done.returncode, done.stderr) == (0, "")
    (warning,) = (line for line in done.stdout.splitlines() if "The tracker mlflow failed" in line)
    assert reason in warning
    assert threading.active_count() <= threads + 1  # tqdm has a thread


@pytest.mark.slow
@needs_mlflow
@pytest.mark.usefixtures("impatient")
def test_server_has_the_run_until_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with ExitStack() as running:
        uri = running.enter_context(run_mlflow_server(tmp_path))
        words = (*SMALL, "tracker=mlflow", f"tracker.mlflow.uri={uri}")
        api.train(*words, directory=tmp_path / "run")
        found = read_mlflow(uri)["run"]
        assert (found["status"], found["files"]) == ("FINISHED", FILES)
        assert (found["points"], caplog.messages) == (read_recorded(tmp_path / "run"), [])
        assert not (tmp_path / "outputs").exists()
        api.train(*words, on_epoch=lambda row: running.close(), directory=tmp_path / "other")
    (warning,) = caplog.messages
    assert warning.startswith("The tracker mlflow failed at epoch 2, and the run continues")
    assert warning.endswith(": ConnectionRefusedError: [Errno 111] Connection refused")


def test_resume_command_has_server_and_account() -> None:
    values = config.to_plain(compose_config([]))
    targets = {"tracker.mlflow.uri": "http://127.0.0.1:5000", "tracker.wandb.entity": "us"}
    settings = config.apply_overrides(values, {"tracker": ["mlflow", "wandb"], **targets})
    words = " ".join(f"{key}={value}" for key, value in targets.items())
    assert resume_command(Path("run"), settings) == f"cnnbench resume run {words}"
