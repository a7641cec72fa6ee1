"""Reading a run directory that may be anyone's: still in use, damaged, or made to harm."""

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

from cnnbench.errors import UNREACHABLE, ConfigError
from cnnbench.runs.directory import LOCK, STATUS
from cnnbench.runs.lock import Lock
from cnnbench.runs.processes import processes

__all__ = [
    "find_runs",
    "of_this_launch",
    "read_accuracy",
    "read_json",
    "read_status",
    "read_text",
    "refuse_ways_out",
]

MAX_BYTES = 1 << 20  # of a file of text; ours have a few thousand


def find_runs(directory: Path) -> list[Path]:
    """The run directory itself, or those inside the directory of a sweep; links there may lead anywhere.

    Raises:
        ConfigError: there is none.
    """
    if (directory / STATUS).exists():
        return [directory]
    runs = sorted(status.parent for status in directory.glob(f"*/{STATUS}") if not status.parent.is_symlink())
    if not runs:
        there = f"holds no run: it has no {STATUS}, nor has a folder in it" if directory.is_dir() else "is no directory"
        raise ConfigError(f"{directory} {there}. Give a run or sweep directory, such as those under outputs/.")
    return runs


def of_this_launch(pattern: Path) -> list[Path]:
    """Return the unfinished runs that this very torchrun began before it restarted; newest last.

    They are in folders of the form `pattern`, which may end in ``*``s.
    """
    ours = processes()
    if not ours.restarts:
        return []
    fixed = next(folder for folder in pattern.parents if "*" not in str(folder))
    found = fixed.glob(str(pattern.relative_to(fixed) / STATUS))
    begun = []
    for folder in [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime)]:
        status = read_status(folder)
        is_ours = (status.get("launch"), status.get("verb")) == (ours.launch, "train")
        if is_ours and status["state"] != "finished":
            begun.append(folder)
    return begun


def refuse_ways_out(directory: Path) -> None:
    """Refuse links that lead out of the directory, and what is neither file nor folder.

    Raises:
        ConfigError: there is such a thing.
    """
    root = directory.resolve()
    for folder, folders, files in os.walk(directory):
        for path in (Path(folder, name) for name in (*folders, *files)):
            try:
                kind = path.lstat().st_mode
            except FileNotFoundError:  # a temporary file of a run that goes on
                continue
            # not path.resolve(), which fails on a link to itself
            if stat.S_ISLNK(kind) and not Path(os.path.realpath(path)).is_relative_to(root):
                raise ConfigError(f"{path} is a link that leads out of {directory}, and is not followed.")
            if not (stat.S_ISLNK(kind) or stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
                raise ConfigError(f"{path} is neither a file nor a folder: cnnbench makes nothing else.")


def read_status(directory: Path) -> dict[str, Any]:
    """What status.json says, put right: whose process is gone is not running but interrupted.

    `state` is running, finished, interrupted or failed, whatever became of the file.

    Raises:
        OSError: the file cannot be reached.
    """
    try:
        status = read_json(directory / STATUS)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in UNREACHABLE:
            raise
        status = {}
    if status.get("state") not in ("running", "finished", "interrupted", "failed"):
        status["state"] = "running"
    held = Lock(directory / LOCK).is_held()
    if held:
        status["state"] = "running"
    elif status["state"] == "running" and (held is False or not _may_be_alive(status)):
        status["state"] = "interrupted"
    return status


def read_accuracy(directory: Path) -> float | None:
    """What finished runs are compared by, the accuracy on the validation set or, if nothing was held out, the test set.

    None if result.json is not there or damaged.
    """
    try:
        result = read_json(directory / "result.json")
        return float(result["best"]["validation_accuracy"] if result["best"] else result["test_accuracy"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _may_be_alive(status: dict[str, Any]) -> bool:
    """Whether the process of a run may still be there, where the file system has no locks to tell."""
    pid = status.get("pid")
    if status.get("host") != socket.gethostname() or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    try:
        values = json.loads(read_text(path, max_bytes))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no object.")
    return values


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """A file of text.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file of its own, no UTF-8, or much too long.
    """
    try:
        # the other end of a pipe may never be opened
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"{path} is not a file of text.")
            content = file.read(max_bytes + 1)
    except IsADirectoryError as error:
        raise ValueError(f"{path} is not a file of text.") from error
    except OSError as error:
        error.filename = str(path)  # of which an error in reading says nothing
        raise
    if len(content) > max_bytes:
        raise ValueError(f"{path} is longer than {max_bytes:,} bytes.")
    return content.decode()
