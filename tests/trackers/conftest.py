"""A run tracked by TensorBoard, and a slow one tracked by all trackers."""

import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, Runs
from helpers.tracker_contents import read_mlflow

PLACES = {
    "tensorboard": "tensorboard --logdir run",
    "mlflow": "mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db",
    "wandb": "wandb sync run/wandb/offline-run-*",
}
WORDS = ("tracker=[tensorboard,mlflow,wandb]", "tracker.wandb.mode=offline", "hydra.run.dir=run")


@pytest.fixture(scope="session")
def tracked(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that TensorBoard tracks since it was resumed after its second epoch."""
    folder = tmp_path_factory.mktemp("tracked")
    shutil.copytree(runs.folder / "finished", folder / "run")
    done = run_in_process("resume", "run", "tracker=tensorboard", "train.epochs=3", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Tracked by tensorboard: {PLACES['tensorboard']}\n" in done.stdout
    return folder / "run"


@pytest.fixture(scope="session")
def tracked_by_all(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was interrupted in its second epoch and resumed.

    Its folder has files with the names of modules that MLflow imports.
    """
    for tracker in PLACES:
        if find_spec(tracker) is None:
            pytest.skip(f"the extra {tracker} is not installed")
    folder = tmp_path_factory.mktemp("tracked_by_all")
    for name in ("html.py", "mlflow.py"):
        (folder / name).write_text("raise SystemExit('not this one')")
    faults = [(int(signal.SIGINT), "step", 6)]
    done = forks.run(*SMALL, *WORDS, folder=folder, faults=faults)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "wandb: " not in done.stderr
    for tracker, place in PLACES.items():
        assert f"Tracked by {tracker}: {place}\n" in done.stdout
    assert read_mlflow(f"sqlite:///{folder}/outputs/mlflow.db")["run"]["status"] == "KILLED"
    time.sleep(1)  # TensorBoard reads files by the second in their names
    done = forks.run("resume", "run", "train.epochs=3", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "run"
