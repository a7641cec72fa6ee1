"""Trackers have what the run directory has, whatever interrupts the run; what happens to them does not concern it."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from forking import ForkServer
from in_process import run_in_process
from installed import NOWHERE, Command
from mlflow_store import Reader, Server
from same_run import differences
from small_runs import SMALL, Runs
from together import run_together

from cnnbench import api, config
from cnnbench.config import MlflowConfig
from cnnbench.runs.reading import read_status
from cnnbench.trackers import mlflow as mlflow_tracker
from cnnbench.trackers import mlflow_process, run_trackers, worker
from cnnbench.trackers.mlflow import Mlflow, address
from cnnbench.trackers.tensorboard import Tensorboard, tag_of
from cnnbench.training.resume import resume_command

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.skipif(find_spec("mlflow") is None, reason="the extra mlflow is not installed")

BOTH = "tracker=[tensorboard,mlflow]"
HERE = "hydra.run.dir=outputs/run"
QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    ours = Reader()
    yield ours
    ours.close()


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes some seconds to start, while other tests run."""
    ours = Server(tmp_path_factory.mktemp("server"))
    yield ours
    ours.kill()


@pytest.fixture(scope="module")
def folder(starting: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run was tracked by both, among files of somebody's that MLflow must not find when it imports its own."""
    folder = tmp_path_factory.mktemp("tracked")
    for name in ("html.py", "mlflow.py"):
        (folder / name).write_text("raise SystemExit('not this one')")
    done = run_in_process(*SMALL, BOTH, HERE, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return folder / "outputs" / "run"


@pytest.fixture(scope="module")
def tracked(folder: Path, reader: Reader) -> dict[str, Any]:
    """What MLflow has of that run, which was begun before those that tests add."""
    ours, *_ = reader.read(folder / "outputs")
    return ours


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def result(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "result.json").read_text())
    return values


def columns(run: Path) -> dict[str, list[list[float]]]:
    """The columns of metrics.csv, by name, as pairs of epoch and value."""
    return {name: [[row["epoch"], row[name]] for row in rows(run)] for name in rows(run)[0] if name != "epoch"}


def events(run: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(run / "tensorboard"), size_guidance=everything).Reload()


def scalars(run: Path) -> dict[str, list[list[float]]]:
    """What TensorBoard's own reader finds, by tag, as pairs of step and value."""
    found = events(run)
    return {tag: [[each.step, each.value] for each in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def as_tensorboard_has_it(run: Path) -> dict[str, list[list[float]]]:
    return {
        tag_of(name): [[epoch, float(np.float32(value))] for epoch, value in pairs]
        for name, pairs in columns(run).items()
    }


def of_epochs(found: dict[str, list[list[float]]], run: Path) -> dict[str, list[list[float]]]:
    """Those that are columns of metrics.csv."""
    names = {*columns(run), *as_tensorboard_has_it(run)}
    return {name: pairs for name, pairs in found.items() if name in names}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tracker=wandb"], "tracker=wandb is not known. Allowed: mlflow, none, tensorboard."),
        (["tracker=[mlflow,tensorbord]"], "Did you mean 'tensorboard'?"),
        (["tracker.mlflow.uri=x"], "There is no key 'tracker.mlflow'. It comes with tracker=mlflow."),
        (["tracker=tensorboard", "tracker.mlflow.uri=x"], "It comes with tracker=mlflow."),
        (["tracker.mlfow.uri=x"], "There is no key 'tracker.mlfow'. Did you mean 'mlflow'?"),
        (["tracker=mlflow", "tracker.mlflow.url=x"], "There is no key 'tracker.mlflow.url'. Did you mean 'uri'?"),
        (
            ["tracker=tensorboard", "tracker.tensorboard.x=1"],
            "There is no key 'tracker.tensorboard.x'. There are none.",
        ),
        (["tracker=mlflow", "tracker.mlflow.uri="], "tracker.mlflow.uri is empty."),
        (["tracker=mlflow", "tracker.mlflow.experiment=null"], "tracker.mlflow.experiment"),
        (["-m", "tracker=mlflow,tensorboard"], "tracker=[tensorboard,mlflow]"),
    ],
    ids=lambda each: each[-1] if isinstance(each, list) else "",
)
def test_a_mistake_is_told_with_what_was_meant(overrides: list[str], message: str, within: Command) -> None:
    done = within("data=sample", *overrides)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def warnings(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith("The tracker ")]


def test_tracking_changes_no_number(run: Path, runs: Runs) -> None:
    differ = differences(run, runs.folder / "finished")
    assert [name for name in differ if ".config.tracker" not in name] == []


def test_tensorboard_has_each_row_once(run: Path) -> None:
    assert of_epochs(scalars(run), run) == as_tensorboard_has_it(run)


def test_tensorboard_has_the_final_figures(run: Path) -> None:
    found, recorded = scalars(run), result(run)
    assert found["final/test_accuracy"] == [[2, np.float32(recorded["test_accuracy"])]]
    assert found["final/best_validation_loss"] == [[2, np.float32(recorded["best"]["validation_loss"])]]


def test_tensorboard_shows_the_curves(run: Path) -> None:
    from PIL import Image

    (shown,) = events(run).Images("curves")
    with Image.open(run / "curves.png") as picture:
        assert (shown.step, shown.width, shown.height) == (2, *picture.size)


def test_tensorboard_shows_the_configuration(run: Path) -> None:
    (shown,) = events(run).Tensors("configuration/text_summary")
    text = shown.tensor_proto.string_val[0].decode()
    assert yaml.safe_load(text) == yaml.safe_load((run / "config.yaml").read_text())


def test_tensorboard_has_parameters_beside_the_figures_without_another_run(run: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events(run).PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["optimizer.lr"].number_value == 0.01
    assert start.hparams["device.compile"].string_value == "false"
    assert [path.parent.name for path in run.rglob("*tfevents*")] == ["tensorboard"]


def test_mlflow_has_each_row_once(run: Path, tracked: dict[str, Any]) -> None:
    assert of_epochs(tracked["metrics"], run) == columns(run)


def test_mlflow_has_the_final_figures(run: Path, tracked: dict[str, Any]) -> None:
    recorded, best = result(run), result(run)["best"]
    assert {name: pairs for name, pairs in tracked["metrics"].items() if name not in columns(run)} == {
        "test_accuracy": [[2, recorded["test_accuracy"]]],
        "test_loss": [[2, recorded["test_loss"]]],
        "best_epoch": [[2, best["epoch"]]],
        "best_validation_accuracy": [[2, best["validation_accuracy"]]],
        "best_validation_loss": [[2, best["validation_loss"]]],
        "parameters": [[2, recorded["parameters"]]],
        "wall_s": [[2, recorded["wall_s"]["total"]]],
    }


def test_mlflow_has_the_configuration_as_parameters(tracked: dict[str, Any]) -> None:
    found = tracked["parameters"]
    chosen = {key: found[key] for key in ("model.name", "model.widths", "optimizer.lr", "data.root", "device.compile")}
    assert chosen == {
        "model.name": "mlp",
        "model.widths": "[8]",
        "optimizer.lr": "0.01",
        "data.root": "null",
        "device.compile": "false",
    }
    assert not any(key.startswith(("tracker", "sweep")) for key in found)


def test_mlflow_has_a_run_of_the_directorys_name_and_its_files(run: Path, tracked: dict[str, Any]) -> None:
    environment = json.loads((run / "environment.json").read_text())
    assert (tracked["name"], tracked["experiment"], tracked["status"]) == ("run", "cnnbench", "FINISHED")
    assert tracked["files"] == ["config.yaml", "curves.png", "result.json"]
    tags = {key: tracked["tags"].get(key) for key in ("cnnbench", "commit", "device", "run_directory", "sweep")}
    assert tags == {
        **{key: environment[key] for key in ("cnnbench", "commit", "device")},
        "run_directory": str(run),
        "sweep": None,
    }


@pytest.mark.slow
def test_all_is_below_outputs(sweep: Path) -> None:
    assert sorted(path.name for path in sweep.iterdir()) == ["outputs"]


def test_where_to_look_is_said(within: Command) -> None:
    done = within(*SMALL, "tracker=tensorboard", "train.epochs=1", HERE)
    assert "Tracked by tensorboard: tensorboard --logdir outputs/run\n" in done.stdout


def test_mlflow_is_kept_from_telling_anyone_else_and_from_signals_of_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []

    def start(*words: object, **how: Any) -> None:
        started.append(how)
        raise OSError

    monkeypatch.setattr(mlflow_tracker.subprocess, "Popen", start)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    told = worker.Told(tmp_path, 0.0, {}, "", {}, [])
    with pytest.raises(OSError):  # noqa: PT011  # the one above
        Mlflow(MlflowConfig(), tmp_path).start(told)
    (how,) = started
    assert (how["env"]["MLFLOW_DISABLE_TELEMETRY"], how["start_new_session"]) == ("true", True)
    timeouts = [how["env"][f"MLFLOW_HTTP_REQUEST_{name}"] for name in ("TIMEOUT", "MAX_RETRIES")]
    assert timeouts == ["77", mlflow_tracker.PATIENCE["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]]


def test_mlflow_starts_for_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def have_no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", "/home/gauss")
    mlflow_process.name_home()
    assert os.environ["HOME"] == "/home/gauss"
    monkeypatch.setattr(Path, "home", have_no_home)
    mlflow_process.name_home()
    assert os.environ["HOME"] == "/nonexistent"


@pytest.mark.slow
def test_mlflow_takes_more_than_it_does_at_once(reader: Reader, tmp_path: Path) -> None:
    parameters = {**{f"model.n{number}": number for number in range(150)}, "model.a{ü}'": "x" * 10_000, "k" * 300: "y"}
    many = [({"epoch": epoch, **{f"m{number}": 0.5 for number in range(9)}}, 0.0) for epoch in range(1, 151)]
    tracker = Mlflow(MlflowConfig(), tmp_path)
    tracker.start(worker.Told(tmp_path, 0.0, parameters, "", {}, many))
    tracker.end("finished")
    tracker.close()
    (ours,) = reader.read(tmp_path)
    assert (len(ours["parameters"]), len(ours["metrics"]["m8"])) == (152, 150)
    assert ours["parameters"]["model.a_ü__"] == "x" * 6000


def test_an_address_is_the_configurations_then_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://theirs")
    given = [address(MlflowConfig(uri=uri)) for uri in ("http://ours", None)]
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert [*given, address(MlflowConfig())] == ["http://ours", "http://theirs", None]


@pytest.fixture(scope="module")
def sweep(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep whose two jobs are trained by two commands at the same time, in a store that is not yet."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ("-m", *SMALL, "tracker=mlflow", "tracker.mlflow.experiment=mine", "train.epochs=1", "sweep=s")
    running = [forks.start(*words, f"seed={seed}", folder=folder) for seed in (0, 1)]
    for done in (each.wait() for each in running):
        assert (done.returncode, warnings(done)) == (0, []), done
    return folder


@pytest.mark.slow
def test_each_job_of_a_sweep_is_a_run_with_its_name(sweep: Path, reader: Reader) -> None:
    ours = reader.read(sweep / "outputs")
    found = {(each["tags"]["sweep"], each["experiment"], each["parameters"]["seed"]) for each in ours}
    assert found == {("s", "mine", "0"), ("s", "mine", "1")}


@pytest.mark.slow
def test_jobs_are_called_the_same_with_trackers_and_without(sweep: Path) -> None:
    assert not any("tracker" in run.name for run in (sweep / "outputs" / "sweeps" / "s").iterdir())


@pytest.mark.slow
def test_of_several_processes_one_tracks(forks: ForkServer, tmp_path: Path) -> None:
    words = (*SMALL, "tracker=tensorboard", "train.epochs=1", HERE)
    done = run_together(forks, *words, folder=tmp_path, PYTHONWARNINGS="default")
    assert [each.returncode for each in done] == [0, 0], done
    assert len(list(tmp_path.rglob("*tfevents*"))) == 1


@pytest.fixture(scope="module")
def interrupted(forks: ForkServer, folder: Path) -> subprocess.CompletedProcess[str]:
    """A tracked run beside the first that SIGINT has ended in its second epoch; its checkpoints are kept as `early`."""
    words = (*SMALL, BOTH, "hydra.run.dir=outputs/struck")
    done = forks.run(*words, folder=folder, strikes=[(int(signal.SIGINT), "step", 6)])
    shutil.copytree(folder / "outputs" / "struck" / "checkpoints", folder / "early")
    return done


@pytest.fixture(scope="module")
def gone_on(interrupted: object, folder: Path) -> Path:
    """That run, gone on with to its end, and then once more from where it had been interrupted."""
    run = folder / "outputs" / "struck"
    assert run_in_process("resume", "outputs/struck", folder=folder).returncode == 0
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(folder / "early", run / "checkpoints")
    assert run_in_process("resume", "outputs/struck", "train.grad_clip_norm=100", folder=folder).returncode == 0
    return run


def status_of(folder: Path, reader: Reader, name: str) -> list[str]:
    return [each["status"] for each in reader.read(folder / "outputs") if each["name"] == name]


def test_a_tracked_run_that_is_interrupted_is_saved_and_known_as_that(
    interrupted: subprocess.CompletedProcess[str], folder: Path, reader: Reader
) -> None:
    assert (interrupted.returncode, "Traceback" in interrupted.stderr) == (130, False), interrupted.stderr
    assert read_status(folder / "outputs" / "struck")["state"] == "interrupted"
    assert status_of(folder, reader, "struck") == ["KILLED"]


def test_a_run_that_goes_on_has_each_row_once_in_tensorboard(gone_on: Path) -> None:
    assert of_epochs(scalars(gone_on), gone_on) == as_tensorboard_has_it(gone_on)


def test_a_run_that_goes_on_is_the_same_run_in_mlflow_with_each_row_once(
    gone_on: Path, folder: Path, reader: Reader
) -> None:
    (ours,) = (each for each in reader.read(folder / "outputs") if each["name"] == "struck")
    assert ours["status"] == "FINISHED"
    assert ours["metrics"]["train_loss"] == columns(gone_on)["train_loss"]


def test_what_was_changed_on_the_way_is_a_tag(gone_on: Path, folder: Path, reader: Reader) -> None:
    (ours,) = (each for each in reader.read(folder / "outputs") if each["name"] == "struck")
    assert (ours["parameters"]["train.grad_clip_norm"], ours["tags"]["changed.train.grad_clip_norm"]) == (
        "null",
        "100.0",
    )


@pytest.mark.slow
def test_a_run_is_tracked_from_its_beginning_where_trackers_are_added_later(
    runs: Runs, reader: Reader, folder: Path
) -> None:
    run = runs.copy("in_second_epoch", folder / "outputs" / "later")
    done = run_in_process("resume", "outputs/later", BOTH, folder=folder)
    assert done.returncode == 0, done.stderr
    assert of_epochs(scalars(run), run) == as_tensorboard_has_it(run)
    (ours,) = (each for each in reader.read(folder / "outputs") if each["name"] == "later")
    assert of_epochs(ours["metrics"], run) == columns(run)


def test_a_run_goes_on_without_its_trackers_when_asked(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "outputs" / "run"))
    before = sorted((copy / "tensorboard").iterdir())
    done = run_in_process("resume", "outputs/run", "tracker=none", "train.epochs=3", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted((copy / "tensorboard").iterdir()) == before
    assert not (tmp_path / "outputs" / "mlflow.db").exists()


@pytest.mark.slow
def test_a_copied_run_directory_does_not_go_on_with_the_run_of_another(
    run: Path, folder: Path, reader: Reader, tracked: dict[str, Any]
) -> None:
    shutil.copytree(run, folder / "outputs" / "copy")
    done = run_in_process("resume", "outputs/copy", "train.epochs=3", folder=folder)
    assert done.returncode == 0, done.stderr
    found = {each["name"]: each for each in reader.read(folder / "outputs")}
    assert found["copy"]["metrics"]["train_loss"] == columns(folder / "outputs" / "copy")["train_loss"]
    assert found["run"]["metrics"] == tracked["metrics"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run_id": 7}', '{"run_id": "../../other"}', '{"run_id": "ab"}'])
def test_a_file_that_names_no_run_of_mlflow_is_not_followed(content: str, tmp_path: Path) -> None:
    (tmp_path / mlflow_tracker.REMEMBERED).write_text(content)
    assert mlflow_tracker._remembered(tmp_path) is None


@pytest.mark.slow
def test_a_killed_run_is_known_as_that_in_mlflow(forks: ForkServer, folder: Path, reader: Reader) -> None:
    words = (*SMALL, "tracker=mlflow", "train.epochs=1000000", "hydra.run.dir=outputs/killed")
    running = forks.start(*words, folder=folder)
    while not (folder / "outputs" / "killed" / "mlflow.json").exists() and running.is_running():
        time.sleep(0.02)
    running.kill()
    give_up_at = time.monotonic() + 60
    while status_of(folder, reader, "killed") != ["KILLED"]:
        assert time.monotonic() < give_up_at, status_of(folder, reader, "killed")
        time.sleep(0.02)


def test_the_command_to_go_on_names_the_server_again(run: Path) -> None:
    values = config.parse((run / "config.yaml").read_text())
    settings = config.apply_overrides(values, {"tracker.mlflow.uri": "http://127.0.0.1:5000"})
    assert resume_command(Path("run"), settings) == "cnnbench resume run tracker.mlflow.uri=http://127.0.0.1:5000"


@pytest.mark.parametrize("method", ["__init__", "start", "epoch", "result", "end", "close"])
def test_whatever_fails_in_a_tracker_the_run_ends_as_without_it(
    method: str, within: Command, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(Tensorboard, method)

    def fail(*values: Any) -> None:
        original(*values)
        raise ZeroDivisionError

    monkeypatch.setattr(Tensorboard, method, fail)
    done = within(*SMALL, "tracker=tensorboard", HERE)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(warnings(done)) == 1
    assert "tensorboard" in warnings(done)[0]
    assert "ZeroDivisionError" in warnings(done)[0]
    differ = differences(tmp_path / "outputs" / "run", runs.folder / "finished")
    assert [name for name in differ if ".config.tracker" not in name] == []


@pytest.mark.parametrize(
    ("overrides", "state"),
    [
        ([], "finished"),
        (["optimizer.lr=1e30"], "failed"),
        (["optimizer.lr=1e-9", "train.fail_if_not_learning=true"], "failed"),
    ],
    ids=str,
)
def test_trackers_are_told_how_the_run_ended(
    overrides: list[str], state: str, within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Tensorboard, "end", lambda tracker, how: told.append(how))
    within(*SMALL, "tracker=tensorboard", HERE, *overrides)
    assert told == [state] == [read_status(tmp_path / "outputs" / "run")["state"]]


def test_files_that_cannot_be_written_are_the_trackers_concern(within: Command, tmp_path: Path) -> None:
    (tmp_path / "outputs" / "run").mkdir(parents=True)
    (tmp_path / "outputs" / "run" / "tensorboard").write_text("in the way")
    done = within(*SMALL, "tracker=tensorboard", "train.epochs=1", HERE)
    assert done.returncode == 0, done.stderr
    (told,) = warnings(done)
    assert "The tracker tensorboard failed at the start" in told


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {**QUICK, "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(key, value)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_refuses_is_told_once_and_the_other_tracker_has_all(within: Command, tmp_path: Path) -> None:
    done = within(*SMALL, BOTH, f"tracker.mlflow.uri={NOWHERE}", HERE)
    assert done.returncode == 0, done.stderr
    (told,) = warnings(done)
    assert "The tracker mlflow failed at the start" in told
    assert "Connection refused" in told
    run = tmp_path / "outputs" / "run"
    assert of_epochs(scalars(run), run) == as_tensorboard_has_it(run)


def threads() -> set[threading.Thread]:
    """Return the threads of this process, but for the one that tqdm starts once and keeps."""
    return {thread for thread in threading.enumerate() if thread.name != "tqdm_monitor"}


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_answers_is_left(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "END_S", 0.5)
    before = threads()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = within(*SMALL, "tracker=mlflow", f"tracker.mlflow.uri=http://127.0.0.1:{silent.getsockname()[1]}", HERE)
    assert done.returncode == 0, done.stderr
    assert warnings(done) == ["The tracker mlflow is left at the start: the rest of the run is not delivered to it."]
    while threads() > before:  # its thread ends with its process
        time.sleep(0.01)


def test_a_second_sigint_does_not_wait_for_trackers(forks: ForkServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        strikes = [(int(signal.SIGINT), "step", 6), (int(signal.SIGINT), "save", 7)]
        words = (*SMALL, "tracker=mlflow", f"tracker.mlflow.uri={uri}", HERE)
        done = forks.run(*words, folder=tmp_path, strikes=strikes, no_proxy="127.0.0.1")
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr
    assert "Waiting for mlflow" not in done.stdout
    assert "The tracker mlflow is left at the start" in done.stdout


def test_a_scheduler_that_signals_all_processes_of_a_job_does_not_end_the_one_of_mlflow() -> None:
    nonsense = b'["no_such_method", {}]\n'
    command = [sys.executable, "-c", mlflow_tracker.PROGRAM, *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(nonsense)
        assert b"no_such_method" in process.stdout.readline()  # it has begun
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
        process.stdin.write(nonsense)
        assert b"no_such_method" in process.stdout.readline()
        process.kill()


def test_a_process_that_is_gone_is_told_once(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_tracker, "PROGRAM", "raise SystemExit(3)")
    done = within(*SMALL, "tracker=mlflow", "train.epochs=1", HERE)
    assert done.returncode == 0, done.stderr
    (told,) = warnings(done)
    assert told.endswith("at the start, and the run goes on without it: the process that talks to MLflow has ended")


def test_passwords_in_addresses_are_not_said() -> None:
    said = run_trackers._without_password("failed at http://me:secret@host:5000/x and https://host/a@b")
    assert said == "failed at http://host:5000/x and https://host/a@b"


@pytest.fixture
def server(starting: Server, monkeypatch: pytest.MonkeyPatch, impatient: None) -> Server:
    starting.wait()
    return starting


def test_a_server_has_the_run_and_its_files_and_this_process_nothing_of_mlflow(
    server: Server, reader: Reader, within: Command, tmp_path: Path
) -> None:
    before = dict(os.environ)
    done = within(*SMALL, "data.validation=0", "tracker=mlflow", f"tracker.mlflow.uri={server.uri}", HERE)
    assert (done.returncode, warnings(done)) == (0, [])
    (ours,) = reader.read(server.uri)
    assert (ours["status"], ours["files"]) == ("FINISHED", ["config.yaml", "curves.png", "result.json"])
    assert of_epochs(ours["metrics"], tmp_path / "outputs" / "run") == columns(tmp_path / "outputs" / "run")
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["run"]
    assert ("mlflow.tracking" in sys.modules, dict(os.environ)) == (False, before)


def test_a_server_that_is_killed_meanwhile_is_told_once(  # and so it is the last one here
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def kill_it(row: dict[str, float]) -> None:
        while not (tmp_path / "run" / "mlflow.json").exists():
            time.sleep(0.01)
        server.kill()

    monkeypatch.chdir(tmp_path)
    words = (*SMALL, "train.epochs=3", "tracker=mlflow", f"tracker.mlflow.uri={server.uri}")
    done = api.train(*words, on_epoch=kill_it, directory=tmp_path / "run")
    assert (len(done.rows), read_status(tmp_path / "run")["state"]) == (3, "finished")
    assert len([record for record in caplog.records if record.message.startswith("The tracker ")]) == 1
