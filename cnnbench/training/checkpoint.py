"""Checkpoints: tensors and plain values, with a format version and a checksum, replaced atomically."""

import hashlib
import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnnbench.errors import UNREACHABLE, CheckpointError
from cnnbench.runs.directory import write_atomically

__all__ = ["FORMAT", "State", "load", "load_newest", "save", "save_rotating"]

FORMAT = 3
FORMAT_OF_0_1 = 2  # its configuration has other keys

State = dict[str, Any]

_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # NumPy has no bfloat16

_NEW = ".new.pt"  # is last.pt to be; all there is where the process was killed as a damaged last.pt became previous.pt


def save(path: Path, state: State) -> None:
    """Write a checkpoint. A reader sees the whole new file or the whole old one.

    Raises:
        OSError: the disk will not take it; what was at `path` is still there.
    """
    sealed = {**state, "format": FORMAT, "sha256": _digest(state)}
    packed = io.BytesIO()  # torch.save hides what a full disk says to it
    torch.save(sealed, packed)
    write_atomically(path, lambda file: file.write(packed.getbuffer()))


def save_rotating(folder: Path, state: State) -> None:
    """Write last.pt, after what it was has become previous.pt."""
    last, new = folder / "last.pt", folder / _NEW
    save(new, state)
    if last.exists():
        last.replace(folder / "previous.pt")
    new.replace(last)


def load_newest(folder: Path) -> tuple[State | None, list[str]]:
    """What training goes on from: last.pt or, where that is not there or damaged, previous.pt or one not yet named.

    None where there is none.
    Also gives what is to be told of a damaged last.pt.

    Raises:
        CheckpointError: what there is cannot be used.
        OSError: what may be sound cannot be reached.
    """
    problems: list[str] = []
    for path in (folder / name for name in ("last.pt", "previous.pt", _NEW)):
        if path.exists():
            try:
                return load(path), problems
            except CheckpointError as error:
                problems.append(str(error))
    if problems:
        raise CheckpointError(
            "\n".join([*problems, "There is no other checkpoint to go on from. Nothing was changed."])
        )
    return None, []


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
        _check_size(sealed, size)
        state = dict(sealed) if isinstance(sealed, dict) else {}
        form, digest = state.pop("format", None), state.pop("sha256", None)
        intact = digest == _digest(state)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is not there.") from error
    except pickle.UnpicklingError as error:  # PyTorch's own words advise to load it all the same
        raise CheckpointError(f"{path} is refused: it holds more than tensors and plain values.") from error
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
        raise CheckpointError(f"{path} is not a checkpoint of format {FORMAT}, which this version of cnnbench reads.")
    if not intact:
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum.")
    return state


def _check_archive(path: Path) -> int:
    """Check that the file is a ZIP archive without compression, as PyTorch writes; returns how many bytes it has."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or sum(part.file_size for part in parts) > size:
        raise ValueError("it is compressed, or claims to be larger than it is")
    return size


def _check_size(value: Any, size: int) -> None:
    """Check that nested values, written one by one, would fit into a file of `size` bytes.

    A tensor can claim more than it has, and lists that are shared double at each level, or never end.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        size -= item.numel() * item.element_size() if isinstance(item, torch.Tensor) else 1
        if size < 0:
            raise ValueError("its values are larger than the file")
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else ()


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
