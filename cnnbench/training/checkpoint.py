"""Checkpoints: tensors and plain values, with a format version and a checksum, replaced atomically."""

import hashlib
import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from cnnbench.errors import CheckpointError
from cnnbench.runs.directory import write_atomically

__all__ = ["FORMAT", "State", "load", "load_newest", "save", "save_rotating"]

FORMAT = 2

State = dict[str, Any]


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
    last, new = folder / "last.pt", folder / ".new.pt"
    save(new, state)
    if last.exists():
        last.replace(folder / "previous.pt")
    new.replace(last)


def load_newest(folder: Path) -> tuple[State | None, list[str]]:
    """What training goes on from: last.pt or, where that is not there or damaged, previous.pt; None where neither is.

    Also gives what is to be told of a damaged last.pt.

    Raises:
        CheckpointError: what there is cannot be used.
    """
    problems: list[str] = []
    for path in (folder / "last.pt", folder / "previous.pt"):
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
    """
    try:
        size = _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sealed = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is not there.") from error
    except pickle.UnpicklingError as error:  # PyTorch's own words advise to load it all the same
        raise CheckpointError(f"{path} is refused: it holds more than tensors and plain values.") from error
    except Exception as error:  # a damaged file can make the unpickler fail in any way
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path} is damaged or is no checkpoint: {reason}") from error
    if _bytes(sealed) > size:
        raise CheckpointError(f"{path} is refused: its tensors are larger than the file.")
    if not isinstance(sealed, dict) or sealed.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of format {FORMAT}, which this version of cnnbench reads.")
    state = {key: value for key, value in sealed.items() if key not in ("format", "sha256")}
    if sealed.get("sha256") != _digest(state):
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


def _bytes(value: Any) -> int:
    """How many bytes the tensors in `value` have, each with all that its shape says."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(map(_bytes, inner))


def _digest(value: Any) -> str:
    digest = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            plain = item.detach().cpu().clone(memory_format=torch.contiguous_format)
            digest.update(f"tensor {plain.dtype} {tuple(plain.shape)} ".encode())
            digest.update(plain.flatten().view(torch.uint8).numpy().data)
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
