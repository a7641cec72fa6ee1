"""Runs of less than a second that go on from every state a run can be left in."""

import shutil
import signal
from pathlib import Path

from forking import ForkServer

__all__ = ["SMALL", "STATES", "Runs", "checkpoints", "contents"]

SMALL = (
    *("model=mlp", "model.widths=[8]", "data=sample", "data.train_examples=64", "data.validation=20"),
    *("data.test_examples=20", "device=cpu", "device.precision=fp32", "train.batch_size=16", "train.epochs=2"),
    *("train.checkpoint_every.steps=1", "optimizer=momentum", "optimizer.lr=0.01"),
)
STATES = {"in_first_epoch": 3, "in_second_epoch": 6, "finished": None}  # the step a signal comes at, of 4 an epoch


class Runs:
    """Copies of a run in each of `STATES`, and the run that each of them must become."""

    def __init__(self, forks: ForkServer, folder: Path) -> None:
        self.folder = folder
        for state, step in STATES.items():
            strikes = [] if step is None else [(int(signal.SIGINT), "step", step)]
            done = forks.run(*SMALL, f"hydra.run.dir={state}", folder=folder, strikes=strikes)
            assert done.returncode == (0 if step is None else 130), done.stderr
        shutil.copytree(folder / "finished", folder / "extended")
        done = forks.run("resume", "extended", "train.epochs=3", folder=folder)
        assert done.returncode == 0, done.stderr

    def copy(self, state: str, path: Path) -> Path:
        return Path(shutil.copytree(self.folder / state, path))

    def changes(self, state: str) -> list[str]:
        """What a run in this state is resumed with."""
        return ["train.epochs=3"] if state == "finished" else []

    def uninterrupted(self, state: str) -> Path:
        return self.folder / ("extended" if state == "finished" else "finished")


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder but the lock, which names who looked last."""
    return {
        str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"
    }


def checkpoints(run: Path) -> dict[str, bytes]:
    return contents(run / "checkpoints")
