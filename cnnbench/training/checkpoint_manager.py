"""Take checkpoints when they are due, and write them while training goes on."""

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Condition, Thread

import torch
from torch import nn

from cnnbench.errors import DivergedError
from cnnbench.runs.processes import processes
from cnnbench.training.checkpoint import State, save, save_rotating
from cnnbench.training.state import Row, TrainingState, snapshot

__all__ = ["AsyncCheckpointWriter", "CheckpointManager"]


class AsyncCheckpointWriter:
    """Writes checkpoints in a thread of its own.

    What is submitted while it is busy replaces what still waits. best.pt is written before last.pt,
    so that it is never older than what last.pt tells of.
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
    """Takes the checkpoints of a run: the copy here and now, the rest in a thread.

    `kept` says in words what last.pt holds. Without a run directory, on a worker rank, nothing is
    written.
    """

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        folder = None if state.run_directory is None else state.run_directory.checkpoints
        self.writer = None if folder is None else AsyncCheckpointWriter(folder)
        self.saved_at = time.monotonic()
        self.kept = _describe_progress(state)

    def due_by_time(self) -> bool:
        """Return whether the clock asks for a checkpoint, which may be before an evaluation."""
        minutes = self.state.config.train.checkpoint_every.minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def due_at_step(self, steps: int) -> bool:
        """Return whether the number of steps since training began asks for a checkpoint."""
        every = self.state.config.train.checkpoint_every.steps
        return every is not None and steps % every == 0

    def due_after_epoch(self, epoch: int) -> bool:
        train = self.state.config.train
        every = train.checkpoint_every.epochs
        return epoch == train.epochs or (every is not None and epoch % every == 0)

    def save(self, best: Row | None = None) -> None:
        """Save the state, and the measured weights as best.pt if `best` is their row.

        Raises:
            DivergedError: there is nothing worth saving: a weight is not finite.
            OSError: an earlier checkpoint could not be written.
        """
        state = self.state
        with state.watch("checkpoints"):
            state.engine.broadcast_weights()
            if not _is_finite(state.engine.model):
                progress = _describe_progress(state)
                raise self.diverged(f"The weights are no longer finite after {progress}")
            shared = state.engine.state()
            if self.writer is not None:
                last = snapshot(state, shared)
                states = {"last": last}
                if best is not None:
                    states["best"] = _as_best(last, best)
                self.writer.submit(states)
        self.saved_at = time.monotonic()
        self.kept = _describe_progress(state)

    def close(self) -> None:
        """Wait until all is on disk.

        Raises:
            OSError: it could not be written.
        """
        if self.writer is not None:
            with self.state.watch("checkpoints"):
                self.writer.close()

    def diverged(self, what: str) -> DivergedError:
        """Return the error that `what` is, with what is kept and what to do."""
        if self.writer is None:
            return DivergedError(what)
        lr = self.state.config.optimizer.lr
        advice = (
            f"Lower optimizer.lr={lr:g}, warm up with scheduler.warmup_epochs=1, or shorten "
            "gradients with train.grad_clip_norm=1."
        )
        if not self.kept:
            return DivergedError(f"{what}. There is no checkpoint yet.\n{advice}")
        run = os.path.relpath(self.writer.folder.parent)
        command = shlex.join([*processes().program(), "resume", run, f"optimizer.lr={lr / 10:g}"])
        kept = f"checkpoints/last.pt holds {self.kept}."
        return DivergedError(f"{what}. {kept}\n{advice}\nTo go on from there: {command}")


def _as_best(last: State, row: Row) -> State:
    """Return what best.pt holds: the weights in `last` that are measured, and their row."""
    weights = last["model"] if last["average"] is None else last["average"]
    return {"epoch": row["epoch"], "row": row, "model": weights, "config": last["config"]}


def _describe_progress(state: TrainingState) -> str:
    """Return what is finished, such as ``epoch 2 and epoch 3 up to step 14``; "" at the start."""
    parts = [f"epoch {len(state.rows)}"] if state.rows else []
    parts += [f"epoch {state.epoch} up to step {state.step}"] if state.step else []
    return " and ".join(parts)


def _is_finite(model: nn.Module) -> bool:
    """Return whether all weights and statistics are finite; waits for the device."""
    values = [value for value in model.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack([value.isfinite().all() for value in values]).all())
