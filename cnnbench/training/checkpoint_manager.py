"""Checkpoints on their way to the disk, which training does not wait for."""

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Condition, Thread

import torch
from torch import nn

from cnnbench.config import Config
from cnnbench.errors import DivergedError
from cnnbench.runs.processes import processes
from cnnbench.training.checkpoint import State, save, save_rotating
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import Progress, Row, snapshot

__all__ = ["AsyncCheckpointWriter", "CheckpointManager"]


class AsyncCheckpointWriter:
    """Writes checkpoints in a thread of its own.

    What is submitted while it is busy replaces what still waits. best.pt is written before last.pt, so that it
    is never older than what last.pt tells of.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._changed = Condition()
        self._waiting: dict[str, State] = {}
        self._busy = self._closed = False
        self._error: BaseException | None = None
        Thread(target=self._work, name="checkpoints", daemon=True).start()

    def submit(self, states: Mapping[str, State]) -> None:
        """Have `states`, by the names best and last, written soon.

        Raises:
            OSError: those before could not be written.
        """
        with self._changed:
            self._raise()
            self._waiting.update(states)
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all is on disk.

        Raises:
            OSError: it could not be written.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._error or not (self._waiting or self._busy))
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closed)
                states, self._waiting = self._waiting, {}
                self._busy = bool(states)
            if not states:
                return
            try:
                if "best" in states:
                    save(self.folder / "best.pt", states["best"])
                if "last" in states:
                    save_rotating(self.folder, states["last"])
            except BaseException as error:  # it is whoever waits that raises it
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return


class CheckpointManager:
    """Takes the checkpoints of a run when they are due: the copy here and now, the rest in a thread.

    `kept` says in words what last.pt holds. Without a folder, in a process that follows the one that records, nothing
    is written.
    """

    def __init__(self, folder: Path | None, engine: EagerEngine, progress: Progress, config: Config) -> None:
        self.engine = engine
        self.progress = progress
        self.config = config
        self.writer = None if folder is None else AsyncCheckpointWriter(folder)
        self.saved_at = time.monotonic()
        self.kept = _in_words(progress)

    def is_timely(self) -> bool:
        """Whether the clock asks for a checkpoint after a step, before an evaluation too."""
        minutes = self.config.train.checkpoint_every.minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def due_at_step(self, steps: int) -> bool:
        """Whether the number of steps asks for one; `steps` are all since training began."""
        every = self.config.train.checkpoint_every.steps
        return every is not None and steps % every == 0

    def due_after_epoch(self, epoch: int) -> bool:
        every = self.config.train.checkpoint_every.epochs
        return epoch == self.config.train.epochs or (every is not None and epoch % every == 0)

    def save(self, best: Row | None = None) -> None:
        """Save where training stands, and the weights that are measured as best.pt, if `best` is their row.

        Raises:
            DivergedError: there is nothing worth saving: a weight is not finite.
            OSError: an earlier checkpoint could not be written.
        """
        with self.progress.watch("checkpoints"):
            self.engine.share()
            if not _is_finite(self.engine.model):
                raise self.diverged(f"The weights are no longer finite after {_in_words(self.progress)}")
            shared = self.engine.state()
            if self.writer is not None:
                last = snapshot(self.engine, self.progress, self.config, shared)
                self.writer.submit({"last": last} | ({} if best is None else {"best": _as_best(last, best)}))
        self.saved_at = time.monotonic()
        self.kept = _in_words(self.progress)

    def close(self) -> None:
        """Wait until all is on disk.

        Raises:
            OSError: it could not be written.
        """
        if self.writer is not None:
            with self.progress.watch("checkpoints"):
                self.writer.close()

    def diverged(self, what: str) -> DivergedError:
        """The error that `what` is, with what is kept and what to do."""
        if self.writer is None:
            return DivergedError(what)
        lr, run = self.config.optimizer.lr, os.path.relpath(self.writer.folder.parent)
        kept = f"checkpoints/last.pt holds {self.kept}." if self.kept else "There is no checkpoint yet."
        program = shlex.join(processes().program())
        go_on = (
            f"\nTo go on from there: {program} resume {shlex.quote(run)} optimizer.lr={lr / 10:g}" if self.kept else ""
        )
        return DivergedError(
            f"{what}. {kept}\n"
            f"Lower optimizer.lr={lr:g}, warm up with scheduler.warmup_epochs=1, or shorten gradients with "
            f"train.grad_clip_norm=1.{go_on}"
        )


def _as_best(last: State, row: Row) -> State:
    """best.pt: the weights in `last` that are measured, and their row."""
    weights = last["model"] if last["average"] is None else last["average"]
    return {"epoch": row["epoch"], "row": row, "model": weights, "config": last["config"]}


def _in_words(progress: Progress) -> str:
    """What is finished, such as ``epoch 2 and epoch 3 up to step 14``; nothing if nothing is."""
    epoch = len(progress.rows)
    parts = [f"epoch {epoch}"] if epoch else []
    return " and ".join(parts + ([f"epoch {epoch + 1} up to step {progress.step}"] if progress.step else []))


def _is_finite(model: nn.Module) -> bool:
    """Whether all weights and statistics are; waits for the device."""
    values = [value.isfinite().all() for value in model.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack(values).all())
