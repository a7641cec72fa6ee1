"""Runs of less than a second, to be resumed from each state in which a run can end."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process

from cnnbench.runs.sweep import recorded_jobs
from cnnbench.training import checkpoint

__all__ = [
    "BETWEEN",
    "SMALL",
    "STATES",
    "Runs",
    "State",
    "find_job",
    "read_checkpoints",
    "read_files",
    "resume_refused",
    "rewrite_checkpoint",
]

SMALL = (
    *("model=mlp", "model.widths=[8]"),
    *("data=sample", "data.train_examples=64", "data.validation=20", "data.test_examples=20"),
    *("device=cpu", "device.precision=fp32"),
    *("train.batch_size=16", "train.epochs=2", "train.checkpoint_every.steps=1"),
    *("optimizer=momentum", "optimizer.lr=0.01"),
)
# the step at which a run is interrupted; an epoch has four
STATES = {"in_first_epoch": 3, "in_second_epoch": 6, "finished": None}
BETWEEN = "in_second_epoch"  # a run in this state has all files except the result
State = dict[str, Any]


class Runs:
    """A run in each of `STATES` to copy, and the uninterrupted run to compare with."""

    def __init__(self, forks: ForkServer, folder: Path) -> None:
        self.folder = folder
        for state, step in STATES.items():
            faults = [] if step is None else [(int(signal.SIGINT), "step", step)]
            done = None
            while done is None or not (folder / state / "checkpoints" / "previous.pt").exists():
                # repeat if the thread that writes checkpoints was too busy to write two
                shutil.rmtree(folder / state, ignore_errors=True)
                done = forks.run(*SMALL, f"hydra.run.dir={state}", folder=folder, faults=faults)
                assert done.returncode == (0 if step is None else 130), done.stderr
        shutil.copytree(folder / "finished", folder / "extended")
        done = run_in_process("resume", "extended", "train.epochs=3", folder=folder)
        assert done.returncode == 0, done.stderr

    def copy(self, state: str, path: Path) -> Path:
        return Path(shutil.copytree(self.folder / state, path))

    def last_chance(self, path: Path) -> Path:
        """Copy a run and remove its previous checkpoint, so that only the last one is left."""
        run = self.copy(BETWEEN, path)
        (run / "checkpoints" / "previous.pt").unlink()
        return run

    def changes(self, state: str) -> list[str]:
        """Return the overrides that leave training to do for a run in this state."""
        return ["train.epochs=3"] if state == "finished" else []

    def uninterrupted(self, state: str) -> Path:
        return self.folder / ("extended" if state == "finished" else "finished")


def find_job(sweep: Path, *overrides: str) -> Path:
    """Return the directory of the one job of a sweep that has these overrides."""
    jobs = recorded_jobs(sweep)
    (name,) = (name for name, given in jobs.items() if set(overrides) <= set(given))
    return sweep / name


def read_files(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by path, except the lock, which each reader changes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): path.read_bytes() for path in files if path.name != ".lock"}


def read_checkpoints(run: Path) -> dict[str, bytes]:
    return read_files(run / "checkpoints")


def resume_refused(
    forks: ForkServer, run: Path, *changes: str, **environment: str
) -> tuple[int, str]:
    """Resume a run, and return the exit code and the output.

    There must be no traceback, and the checkpoints must not change.
    """
    before = read_checkpoints(run)
    running = forks.start("resume", run.name, *changes, folder=run.parent, **environment)
    done = running.wait(timeout_s=60)
    assert "Traceback" not in done.stderr, done.stderr
    assert read_checkpoints(run) == before
    return done.returncode, done.stdout + done.stderr


def rewrite_checkpoint(path: Path, change: Callable[[State], Any]) -> None:
    """Change a checkpoint, and save it with a valid checksum."""
    state = checkpoint.load_checkpoint(path)
    change(state)
    checkpoint.save(path, state)
