"""Checkpoints: their format, and when and how they are written while training goes on.

They hold tensors and plain values, with a format version and a checksum, and are replaced atomically.
"""

import hashlib
import io
import pickle
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import numpy as np
import torch

from cnnbench.errors import UNREACHABLE, CheckpointError, DivergedError
from cnnbench.runs.atomic_files import write_atomically
from cnnbench.runs.directory import resume_command
from cnnbench.training.state import Row, State, TrainingState, snapshot

__all__ = [
    "AsyncCheckpointWriter",
    "CheckpointManager",
    "load",
    "load_newest",
    "save",
    "save_rotating",
]

FORMAT = 3
FORMAT_OF_0_1 = 2  # its configuration has other keys

_SAME_SIZE = {
    1: torch.uint8,
    2: torch.int16,
    4: torch.int32,
    8: torch.int64,
}  # NumPy has no bfloat16

_NEW = ".new.pt"  # is last.pt to be; all there is where the process was killed as a damaged last.pt became previous.pt


def save(path: Path, state: State) -> None:
    """Write a checkpoint. A reader sees the whole new file or the whole old one.

    Raises:
        OSError: the disk will not take it; what was at `path` is still there.
    """
    packed = io.BytesIO()  # torch.save hides what a full disk says to it
    torch.save({**state, "format": FORMAT, "sha256": _digest(state)}, packed)
    write_atomically(path, lambda file: file.write(packed.getbuffer()))


def save_rotating(folder: Path, state: State) -> None:
    """Write last.pt, after what it was has become previous.pt."""
    last, new = folder / "last.pt", folder / _NEW
    save(new, state)
    if last.exists():
        last.replace(folder / "previous.pt")
    new.replace(last)


def load_newest(folder: Path) -> tuple[State | None, list[str]]:
    """Return the newest sound checkpoint, None if there is none, and what to report of damaged ones.

    That is last.pt or, where that is not there or damaged, previous.pt or one not yet named.

    Raises:
        CheckpointError: what there is cannot be used.
        OSError: what may be sound cannot be reached.
    """
    problems: list[str] = []
    for name in ("last.pt", "previous.pt", _NEW):
        if (folder / name).exists():
            try:
                return load(folder / name), problems
            except CheckpointError as error:
                problems.append(str(error))
    if problems:
        problems.append("There is no other checkpoint to go on from. Nothing was changed.")
        raise CheckpointError("\n".join(problems))
    return None, problems


def load(path: Path) -> State:
    """Read a checkpoint onto the CPU; it can hold no code, and takes no more memory than the file.

    Raises:
        CheckpointError: not there, damaged, of another format, or it holds more than tensors and plain values.
        OSError: it cannot be reached, and may be sound.
    """
    try:
        size = _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sealed = torch.load(path, map_location="cpu", weights_only=True)
        _check_values(sealed, size)
        state = dict(sealed) if isinstance(sealed, dict) else {}
        form, digest = state.pop("format", None), state.pop("sha256", None)
        intact = digest == _digest(state)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is not there.") from error
    except pickle.UnpicklingError as error:  # PyTorch's own words advise to load it all the same
        raise CheckpointError(
            f"{path} is refused: it holds more than tensors and plain values."
        ) from error
    except Exception as error:  # a damaged file can make the unpickler fail in any way
        if isinstance(error, OSError) and error.errno in UNREACHABLE:
            error.filename = str(path)
            raise
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        reason = reason or type(error).__name__
        raise CheckpointError(f"{path} is damaged or is no checkpoint: {reason}") from error
    if form == FORMAT_OF_0_1:
        made = f"{path} was made by cnnbench 0.1, whose configuration had other keys."
        raise CheckpointError(f"{made} Train anew, or use cnnbench 0.1.")
    if form != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of format {FORMAT}, which this version of cnnbench reads."
        )
    if not intact:
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum.")
    return state


def _check_archive(path: Path) -> int:
    """Check that the file is a ZIP archive without compression, as PyTorch writes; return its size in bytes."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    compressed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if compressed or sum(part.file_size for part in parts) > size:
        raise ValueError("it is compressed, or claims to be larger than it is")
    return size


def _check_values(value: Any, size: int) -> None:
    """Check that nested values, written one by one, would fit into a file of `size` bytes.

    A tensor can claim more than it has, and lists that are shared double at each level, or never
    end. Nor may a text be an interpolation, which looks into this machine's environment.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        size -= item.numel() * item.element_size() if isinstance(item, torch.Tensor) else 1
        if size < 0:
            raise ValueError("its values are larger than the file")
        if isinstance(item, str) and "${" in item:
            raise ValueError("it holds an interpolation")
        waiting += (
            item.values()
            if isinstance(item, dict)
            else item
            if isinstance(item, (list, tuple))
            else ()
        )


def _digest(value: Any) -> str:
    digest = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            digest.update(f"tensor {item.dtype} {tuple(item.shape)} ".encode())
            # By NumPy, as PyTorch would copy in several threads. A second team of them, in the thread that writes
            # checkpoints, lets OpenMP send those that train to sleep between operations (benchmarks/NOTES.md).
            numbers = item.detach().cpu().view(_SAME_SIZE[item.element_size()]).numpy()
            digest.update(np.ascontiguousarray(numbers).data)
        elif isinstance(item, dict):
            digest.update(f"dict {len(item)} ".encode())
            for key, inner in item.items():
                add(key)
                add(inner)
        elif isinstance(item, (list, tuple)):
            digest.update(f"list {len(item)} ".encode())
            for inner in item:
                add(inner)
        else:
            digest.update(f"{type(item).__name__} {item!r} ".encode())

    add(value)
    return digest.hexdigest()


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
        """Have `states`, by the names best and last, written soon; raise what came of earlier ones."""
        with self._changed:
            if self._error is not None:
                raise self._error
            self._waiting.update(states)
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all is on disk; raise OSError if it could not be written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._error or not (self._waiting or self._busy))
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
        self.every = state.config.train.checkpoint_every
        run = state.run_directory
        self.writer = None if run is None else AsyncCheckpointWriter(run.checkpoints)
        self.saved_at = time.monotonic()
        self.kept = _describe_progress(state)

    def due_by_time(self) -> bool:
        """Return whether the clock asks for a checkpoint, which may be before an evaluation."""
        minutes = self.every.minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def due_at_step(self, steps: int) -> bool:
        """Return whether the number of steps since training began asks for a checkpoint."""
        return self.every.steps is not None and steps % self.every.steps == 0

    def due_after_epoch(self, epoch: int) -> bool:
        is_last = epoch == self.state.config.train.epochs
        return is_last or (self.every.epochs is not None and epoch % self.every.epochs == 0)

    def save(self, best: Row | None = None) -> None:
        """Save the state, and the measured weights as best.pt if `best` is their row.

        Raises:
            DivergedError: there is nothing worth saving: a weight is not finite.
            OSError: an earlier checkpoint could not be written.
        """
        state, progress = self.state, _describe_progress(self.state)
        with state.watch("checkpoints"):
            state.engine.broadcast_weights()
            values = state.engine.model.state_dict().values()
            finite = [value.isfinite().all() for value in values if value.is_floating_point()]
            if not torch.stack(finite).all():  # waits for the device
                raise self.diverged(f"The weights are no longer finite after {progress}")
            shared = state.engine.state()
            if self.writer is not None:
                last = snapshot(state, shared)
                states = {"last": last}
                if best is not None:
                    weights = last["model"] if last["average"] is None else last["average"]
                    states["best"] = {
                        "epoch": best["epoch"],
                        "row": best,
                        "model": weights,
                        "config": last["config"],
                    }
                self.writer.submit(states)
        self.saved_at = time.monotonic()
        self.kept = progress

    def close(self) -> None:
        """Wait until all is on disk; raise OSError if it could not be written."""
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
        run, change = self.writer.folder.parent, f"optimizer.lr={lr / 10:g}"
        command = resume_command(run, self.state.config, change)
        kept = f"checkpoints/last.pt holds {self.kept}."
        return DivergedError(f"{what}. {kept}\n{advice}\nTo resume from there: {command}")


def _describe_progress(state: TrainingState) -> str:
    """Return what is finished, such as ``epoch 2 and epoch 3 up to step 14``; "" at the start."""
    parts = [f"epoch {len(state.rows)}"] if state.rows else []
    parts += [f"epoch {state.epoch} up to step {state.step}"] if state.step else []
    return " and ".join(parts)
