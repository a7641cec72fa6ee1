"""Read the files of run directories, which may be in use, damaged, or untrusted."""

import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from cnnbench import config
from cnnbench.errors import UNREACHABLE, ConfigError, format_count
from cnnbench.runs.directory import LOCK, STATUS
from cnnbench.runs.lock import Lock
from cnnbench.runs.torchrun_env import processes

__all__ = [
    "MAX_DEPTH",
    "check_is_run",
    "check_training_run",
    "find_figure",
    "find_latest",
    "find_runs",
    "list_runs",
    "look_up",
    "read_accuracy",
    "read_config",
    "read_json",
    "read_json_or_empty",
    "read_status",
    "read_text",
    "reject_escaping_links",
    "runs_of_this_launch",
]

OUTPUTS = Path("outputs")
MAX_DEPTH = 4  # levels of folders, as in ./outputs/sweeps/<sweep>/<job>
MAX_BYTES = 1 << 20  # size of a text file; cnnbench writes a few thousand bytes


def find_runs(directory: Path) -> list[Path]:
    """Return the run directory, or the run directories in a sweep, except links.

    Raises:
        ConfigError: `directory` holds no run.
    """
    if (directory / STATUS).exists():
        return [directory]
    found = sorted(path.parent for path in directory.glob(f"*/{STATUS}"))
    runs = [run for run in found if not run.is_symlink()]
    if not runs:
        raise ConfigError(_explain_no_run(directory, "resume"))
    return runs


def check_is_run(directory: Path, command: str) -> None:
    """Check that `directory` is a run directory, for a command that reads one run.

    Raises:
        ConfigError: it is not one. If it holds runs, the message proposes the newest.
    """
    if not (directory / STATUS).exists():
        raise ConfigError(_explain_no_run(directory, command))


def _explain_no_run(directory: Path, command: str) -> str:
    runs = list_runs(directory)
    if runs:
        latest = " (or: latest)" if runs[-1:] == list_runs(OUTPUTS)[-1:] else ""
        offer = config.join_words(["cnnbench", command, str(runs[-1])]) + latest
        count = format_count(len(runs), "run")
        return f"{directory} holds {count}. The newest is {runs[-1]}: {offer}"
    problem = "is not a directory"
    if directory.is_dir():
        problem = f"holds no run: there is no {STATUS} in it or in its folders"
    return f"{directory} {problem}. Give a run or sweep directory, such as those under {OUTPUTS}/."


def find_latest() -> Path:
    """Return the run under outputs/ that began last.

    Raises:
        ConfigError: there is no run under outputs/.
    """
    runs = list_runs(OUTPUTS)
    if not runs:
        raise ConfigError(f"There is no run under {OUTPUTS}/ here. Train one first: cnnbench")
    return runs[-1]


def list_runs(folder: Path) -> list[Path]:
    """Return the training runs up to MAX_DEPTH levels below a folder, by start time.

    Links are not followed.
    """
    runs = []
    for run in _walk(folder, MAX_DEPTH):
        status = read_json_or_empty(run / STATUS)
        if status.get("verb", "train") == "train":
            runs.append((_find_start(status), run))
    return [run for _, run in sorted(runs)]


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                path = folder / entry.name
                if (path / STATUS).exists():
                    yield path
                elif depth > 1:
                    yield from _walk(path, depth - 1)


def _find_start(status: Mapping[str, Any]) -> float:
    """Return the start time of a run in seconds; 0 if its status does not have one."""
    try:
        return datetime.fromisoformat(str(status.get("began", status.get("since")))).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def runs_of_this_launch(pattern: Path) -> list[Path]:
    """Return the unfinished runs that this torchrun began before it restarted; newest last.

    The directories of the runs match `pattern`, whose last parts may have ``*``.
    """
    current = processes()
    if not current.restarts:
        return []
    fixed = next(folder for folder in pattern.parents if "*" not in str(folder))
    found = fixed.glob(str(pattern.relative_to(fixed) / STATUS))
    runs = []
    for path in sorted(found, key=lambda path: path.stat().st_mtime):
        status = read_status(path.parent)
        is_of_launch = (status.get("launch"), status.get("verb")) == (current.launch, "train")
        if is_of_launch and status["state"] != "finished":
            runs.append(path.parent)
    return runs


def check_training_run(directory: Path) -> dict[str, Any]:
    """Return the status of a training run whose directory may be untrusted.

    Raises:
        ConfigError: a link in it leads out of it, or another command created it.
    """
    reject_escaping_links(directory)
    status = read_status(directory)
    command = status.get("verb", "train")
    if command != "train":
        raise ConfigError(f"{directory} is not a training run: cnnbench {command} created it.")
    return status


def reject_escaping_links(directory: Path) -> None:
    """Refuse links that lead out of the directory, and devices, pipes and sockets.

    Raises:
        ConfigError: the directory has one of these.
    """
    root = directory.resolve()
    for folder, folders, files in os.walk(directory):
        for path in (Path(folder, name) for name in (*folders, *files)):
            try:
                kind = path.lstat().st_mode
            except FileNotFoundError:  # a temporary file of a running run
                continue
            if stat.S_ISLNK(kind):
                target = Path(os.path.realpath(path))  # path.resolve() fails on a link to itself
                if not target.is_relative_to(root):
                    reason = f"a link that leads out of {directory}, and is not followed"
                    raise ConfigError(f"{path} is {reason}.")
            elif not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
                reason = "neither a file nor a folder: cnnbench makes nothing else"
                raise ConfigError(f"{path} is {reason}.")


def read_status(directory: Path) -> dict[str, Any]:
    """Return status.json. A run without a live process is interrupted, not running.

    `state` is always running, finished, interrupted or failed, even if the file is damaged.

    Raises:
        OSError: the file may be intact, but cannot be read.
    """
    try:
        status = read_json(directory / STATUS)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in UNREACHABLE:
            raise
        status = {}
    if status.get("state") not in ("running", "finished", "interrupted", "failed"):
        status["state"] = "running"
    is_held = Lock(directory / LOCK).is_held()
    if is_held:
        status["state"] = "running"
    elif status["state"] == "running" and (is_held is False or not _may_be_alive(status)):
        status["state"] = "interrupted"
    return status


def _may_be_alive(status: dict[str, Any]) -> bool:
    """Return whether the process of a run may be alive, on a file system without locks."""
    pid = status.get("pid")
    if status.get("host") != socket.gethostname() or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process belongs to another user
        return True
    return True


def look_up(values: Any, *keys: str) -> Any:
    """Return the value at a path of keys in nested mappings; None if it is missing."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def find_figure(result: Mapping[str, Any], *keys: str) -> float | None:
    """Return a number of result.json, such as "best", "validation_accuracy"; or None."""
    value = look_up(result, *keys)
    # Refuse NaN, and numbers whose square overflows.
    return float(value) if type(value) in (int, float) and abs(value) < 1e150 else None


def read_accuracy(directory: Path) -> float | None:
    """Return the accuracy by which finished runs are compared; None without a result.json.

    It is the accuracy on the validation set or, without one, on the test set.
    """
    result = read_json_or_empty(directory / "result.json")
    keys = ("best", "validation_accuracy") if result.get("best") else ("test_accuracy",)
    return find_figure(result, *keys)


def read_config(directory: Path) -> dict[str, Any]:
    """Return the plain values of config.yaml, for `config.load_config`.

    Raises:
        OSError: the file cannot be read.
        ConfigError: the file is damaged or refused.
    """
    try:
        return config.parse(read_text(directory / "config.yaml"))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def read_json_or_empty(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; {} if the file is missing or damaged."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged or longer than `max_bytes`.
    """
    try:
        values = json.loads(read_text(path, max_bytes))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no object.")
    return values


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Return the content of a text file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a regular file, not UTF-8, or longer than `max_bytes`.
    """
    try:
        # Do not wait for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"{path} is not a text file.")
            content = file.read(max_bytes + 1)
    except IsADirectoryError as error:
        raise ValueError(f"{path} is not a text file.") from error
    except OSError as error:
        error.filename = str(path)  # errors of read() do not have it
        raise
    if len(content) > max_bytes:
        raise ValueError(f"{path} is longer than {max_bytes:,} bytes.")
    return content.decode()
