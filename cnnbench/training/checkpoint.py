"""Checkpoints: their file format, when to write them, and a thread that writes them.

A checkpoint holds tensors and plain values, a format version and a checksum. Each file is replaced
atomically.
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
    "digest",
    "load_checkpoint",
    "load_newest",
    "save",
    "save_rotating",
]

FORMAT = 3
FORMAT_OF_0_1 = 2  # with other configuration keys

# NumPy has no bfloat16, so the checksum reads tensors as integers of the same size in bytes.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# The new last.pt before it has its name. If the process is killed just after a damaged last.pt
# became previous.pt, this is the only sound checkpoint.
_NEW = ".new.pt"


def save(path: Path, state: State) -> None:
    """Write a checkpoint. A reader sees the whole new file or the whole old one.

    Raises:
        OSError: the file cannot be written. The old file at `path` is unchanged.
    """
    packed = io.BytesIO()  # torch.save to a file hides the error of a full disk
    torch.save({**state, "format": FORMAT, "sha256": digest(state)}, packed)
    write_atomically(path, lambda file: file.write(packed.getbuffer()))


def save_rotating(folder: Path, state: State) -> None:
    """Write last.pt, and keep the former last.pt as previous.pt."""
    last, new = folder / "last.pt", folder / _NEW
    save(new, state)
    if last.exists():
        last.replace(folder / "previous.pt")
    new.replace(last)


def load_newest(folder: Path) -> tuple[State | None, list[str]]:
    """Return the newest sound checkpoint, None if there is none, and the problems of newer ones.

    The newest is last.pt. If it is missing or damaged, previous.pt or .new.pt is used.

    Raises:
        CheckpointError: there are checkpoints, but none can be used.
        OSError: a checkpoint that may be sound cannot be read.
    """
    problems: list[str] = []
    for name in ("last.pt", "previous.pt", _NEW):
        if (folder / name).exists():
            try:
                return load_checkpoint(folder / name), problems
            except CheckpointError as error:
                problems.append(str(error))
    if problems:
        problems.append("There is no other checkpoint to resume from. Nothing was changed.")
        raise CheckpointError("\n".join(problems))
    return None, problems


def load_checkpoint(path: Path) -> State:
    """Read an untrusted checkpoint onto the CPU.

    Code in the file is refused. The values take no more memory than the file.

    Raises:
        CheckpointError: the file is missing, damaged, of another format, or holds more than tensors
            and plain values.
        OSError: the file cannot be read, but may be sound.
    """
    try:
        size = _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sealed = torch.load(path, map_location="cpu", weights_only=True)
        _check_values(sealed, size)
        state = dict(sealed) if isinstance(sealed, dict) else {}
        file_format, recorded = state.pop("format", None), state.pop("sha256", None)
        is_intact = recorded == digest(state)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is not there.") from error
    except pickle.UnpicklingError as error:  # PyTorch's message advises to load the file anyway
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
    if file_format == FORMAT_OF_0_1:
        reason = f"{path} was made by cnnbench 0.1, whose configuration had other keys."
        raise CheckpointError(f"{reason} Train anew, or use cnnbench 0.1.")
    if file_format != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of format {FORMAT}, which this version of cnnbench reads."
        )
    if not is_intact:
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum.")
    return state


def _check_archive(path: Path) -> int:
    """Check that the file is an uncompressed ZIP archive, as PyTorch writes; return its bytes."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    is_compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if is_compressed or sum(member.file_size for member in members) > size:
        raise ValueError("it is compressed, or claims to be larger than it is")
    return size


def _check_values(value: Any, size: int) -> None:
    """Check that nested values, written one by one, would fit into a file of `size` bytes.

    A tensor can claim more elements than it stores. Shared lists can double at each level, or
    contain themselves. Interpolations are refused, as they can read environment variables.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        size -= item.numel() * item.element_size() if isinstance(item, torch.Tensor) else 1
        if size < 0:
            raise ValueError("its values are larger than the file")
        if isinstance(item, str) and "${" in item:
            raise ValueError("it holds an interpolation")
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, (list, tuple)):
            waiting += item


def digest(value: Any) -> str:
    """Return the SHA-256 checksum of nested values."""
    checksum = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            checksum.update(f"tensor {item.dtype} {tuple(item.shape)} ".encode())
            # NumPy copies in one thread. PyTorch would start a second team of OpenMP threads in
            # the thread that writes checkpoints. OpenMP then lets the training threads sleep
            # between operations (benchmarks/NOTES.md).
            numbers = item.detach().cpu().view(_INTEGERS[item.element_size()]).numpy()
            checksum.update(np.ascontiguousarray(numbers).data)
        elif isinstance(item, dict):
            checksum.update(f"dict {len(item)} ".encode())
            for key, inner in item.items():
                add(key)
                add(inner)
        elif isinstance(item, (list, tuple)):
            checksum.update(f"list {len(item)} ".encode())
            for inner in item:
                add(inner)
        else:
            checksum.update(f"{type(item).__name__} {item!r} ".encode())

    add(value)
    return checksum.hexdigest()


class AsyncCheckpointWriter:
    """Writes checkpoints in a background thread.

    A checkpoint submitted while the thread is busy replaces the one that waits. best.pt is written
    before last.pt, so that best.pt always exists for the best epoch that last.pt records.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._changed = Condition()
        self._waiting: dict[str, State] = {}
        self._busy = self._closed = False
        self._error: BaseException | None = None
        Thread(target=self._work, name="checkpoints", daemon=True).start()

    def submit(self, states: Mapping[str, State]) -> None:
        """Have `states`, under the keys best and last, written soon.

        Raises:
            OSError: an earlier checkpoint could not be written.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            self._waiting.update(states)
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until every checkpoint is on disk; raise OSError if one cannot be written."""
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
            except BaseException as error:  # the training thread raises it
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return


class CheckpointManager:
    """Saves the checkpoints of a run: copies the state at once, and writes it in a thread.

    `saved_progress` describes the progress in last.pt. On a worker rank, which has no run
    directory, nothing is written.
    """

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        self.every = state.config.train.checkpoint_every
        run = state.run_directory
        self.writer = None if run is None else AsyncCheckpointWriter(run.checkpoints)
        self.saved_at = time.monotonic()
        self.saved_progress = _describe_progress(state)

    def due_by_time(self) -> bool:
        """Return whether train.checkpoint_every.minutes have passed since the last checkpoint."""
        minutes = self.every.minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def due_at_step(self, steps: int) -> bool:
        """Return whether a checkpoint is due after so many steps of the whole run."""
        return self.every.steps is not None and steps % self.every.steps == 0

    def due_after_epoch(self, epoch: int) -> bool:
        """Return whether a checkpoint is due after this epoch; it always is after the last."""
        is_last = self.state.ending is not None
        return is_last or (self.every.epochs is not None and epoch % self.every.epochs == 0)

    def save(self, best: Row | None = None) -> None:
        """Save the state as last.pt and, if `best` is the row of its weights, these as best.pt.

        Raises:
            DivergedError: a weight is not finite; nothing is saved.
            OSError: an earlier checkpoint could not be written.
        """
        state, progress = self.state, _describe_progress(self.state)
        with state.watch("checkpoints"):
            state.engine.broadcast_weights()
            values = state.engine.model.state_dict().values()
            are_finite = [value.isfinite().all() for value in values if value.is_floating_point()]
            if not torch.stack(are_finite).all():  # waits for the device
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
        self.saved_progress = progress

    def close(self) -> None:
        """Wait until every checkpoint is on disk; raise OSError if one cannot be written."""
        if self.writer is not None:
            with self.state.watch("checkpoints"):
                self.writer.close()

    def diverged(self, problem: str) -> DivergedError:
        """Return the error for `problem`, with the progress in last.pt and the next step."""
        if self.writer is None:
            return DivergedError(problem)
        lr = self.state.config.optimizer.lr
        advice = (
            f"Lower optimizer.lr={lr:g}, warm up with scheduler.warmup_epochs=1, or clip "
            "gradients with train.grad_clip_norm=1."
        )
        if not self.saved_progress:
            return DivergedError(f"{problem}. There is no checkpoint yet.\n{advice}")
        run, change = self.writer.folder.parent, f"optimizer.lr={lr / 10:g}"
        command = resume_command(run, self.state.config, change)
        saved = f"checkpoints/last.pt holds {self.saved_progress}."
        return DivergedError(f"{problem}. {saved}\n{advice}\nTo resume from there: {command}")


def _describe_progress(state: TrainingState) -> str:
    """Return the progress, such as ``epoch 2 and epoch 3 up to step 14``; "" at the start."""
    parts = [f"epoch {len(state.rows)}"] if state.rows else []
    parts += [f"epoch {state.epoch} up to step {state.step}"] if state.step else []
    return " and ".join(parts)
