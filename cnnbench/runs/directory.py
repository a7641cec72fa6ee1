"""A run directory, which belongs to one run, and its files."""

import csv
import hashlib
import io
import json
import logging.config
import os
import socket
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from cnnbench.config import INPUT_KEYS, Config, external_targets, format_override, join_words
from cnnbench.errors import CnnbenchError, ConfigError, explain_write_error, from_machine
from cnnbench.runs.atomic_files import write_atomically
from cnnbench.runs.lock import Lock
from cnnbench.runs.torchrun_env import processes

__all__ = [
    "DATASET",
    "LOCK",
    "STATUS",
    "RunDirectory",
    "claim",
    "claim_exactly",
    "claim_new",
    "job_directory_name",
    "log_to",
    "log_to_file",
    "reopen",
    "require_empty",
    "resume_command",
]

STATUS, DATASET, LOCK = "status.json", "dataset.json", ".lock"
CHOOSE_DIRECTORY = (
    "Name another directory (hydra.run.dir=DIR or sweep=NAME), or leave it to cnnbench."
)
WAIT_S = 1.0  # a reader may hold the lock for a moment to test whether it is free


def claim(directory: Path, command: str = "train") -> "RunDirectory | None":
    """Claim `directory` for a run of a command; return None if another process has claimed it.

    Raises:
        OSError: the directory cannot be created or written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = Lock(directory / LOCK)
    if (directory / STATUS).exists() or not lock.acquire():
        return None
    try:
        began = _now()
        with (directory / STATUS).open("x") as file:  # decides on file systems without locks
            json.dump(_status("running", command, began), file)
    except OSError as error:
        lock.release()
        if isinstance(error, FileExistsError):
            return None
        raise
    return RunDirectory(directory, command, lock, began)


def require_empty(directory: Path, *marks: str) -> None:
    """Check that `directory` is missing or empty, or has a file with one of the names `marks`.

    Raises:
        ConfigError: it has only other files, which must not be mixed with the files of a run.
    """
    try:
        # a process that is about to claim the directory has created the lock
        names = {path.name for path in directory.iterdir()} - {LOCK}
    except OSError:  # it is missing, or the claim will raise a clear error
        return
    if names and names.isdisjoint(marks):
        raise ConfigError(
            f"'{directory}' already exists and is not an empty folder. {CHOOSE_DIRECTORY}"
        )


def claim_exactly(directory: Path, command: str = "train") -> "RunDirectory":
    """Claim a directory that the user has named.

    Raises:
        ConfigError: it already holds a run, or cannot be written to.
    """
    run = _claim_or_explain(directory, command)
    if run is None:
        resume = join_words([*processes().program(), "resume", str(directory)])
        hint = f"\nTo resume that run: {resume}" if command == "train" else ""
        reason = f"{directory} already holds a run, and a run directory is never used twice"
        raise ConfigError(f"{reason}. {CHOOSE_DIRECTORY}{hint}")
    return run


def claim_new(wanted: Path, command: str = "train") -> "RunDirectory":
    """Claim `wanted` or, if it holds a run, the first free directory of `wanted`_2, _3, ...

    Raises:
        ConfigError: the directory cannot be created or written to.
    """
    directory, number = wanted, 2
    while (run := _claim_or_explain(directory, command)) is None:
        directory = wanted.parent / f"{wanted.name}_{number}"
        number += 1
    return run


def _claim_or_explain(directory: Path, command: str) -> "RunDirectory | None":
    """Call `claim`, and turn a system error into one that names the option for another place."""
    try:
        return claim(directory, command)
    except OSError as error:
        advice = "Name another place: hydra.run.dir=DIR."
        raise explain_write_error(error.filename or directory, error, advice) from error


@contextmanager
def reopen(directory: Path, began: str) -> "Iterator[RunDirectory]":
    """Lock the directory of a training run that has stopped, for the block.

    `began` is the start time in its status. If it is "", the status is damaged: it begins now.

    Raises:
        ConfigError: the run is running. The message names the process and its machine.
    """
    with Lock(directory / LOCK).taken(WAIT_S) as lock:
        for folder in (directory, directory / "checkpoints"):
            for leftover in folder.glob(".*.tmp"):  # from a process that was killed
                leftover.unlink()
        yield RunDirectory(directory, "train", lock, began or _now())


def resume_command(directory: Path, config: Config, *changes: str) -> str:
    """Return the command line that resumes a run, with the overrides `changes`."""
    words = [*processes().program(), "resume", os.path.relpath(directory)]
    targets = external_targets(config).items()
    # resume trusts the paths in the checkpoint
    words += [format_override(key, value) for key, value in targets if key not in INPUT_KEYS]
    if ":" in config.model.name:
        words.append("--allow-custom-model")
    return join_words([*words, *changes])


def log_to(directory: Path, conf: Path) -> None:
    """Log to the terminal and to the train.log of a run, as in a run that Hydra starts.

    `conf` is the folder of the YAML files.

    Raises:
        OSError: train.log cannot be written.
    """
    path = conf / "hydra" / "job_logging" / "plain.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["handlers"]["file"]["filename"] = str(directory / "train.log")
    settings["filters"]["own"]["verbose"] = False  # in place of ${hydra.verbose}
    try:
        logging.config.dictConfig(settings)
    except ValueError as error:  # dictConfig replaces the OSError of a file that cannot be opened
        raise error.__cause__ or error from None


def log_to_file(line: str) -> None:
    """Write a line only to train.log, if the log has a file."""
    log = logging.getLogger("cnnbench")
    record = log.makeRecord(log.name, logging.INFO, __file__, 0, line, (), None)
    for handler in (*logging.getLogger().handlers, *log.handlers):
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def job_directory_name(overrides: str) -> str:
    """Return the name of the directory of a job, from its overrides.

    A name of a file may not have slashes, nor more than 255 bytes.
    """
    name = overrides.replace("/", "_") or "as_configured"
    encoded = name.encode(errors="surrogateescape")  # the command line may not be UTF-8
    if len(encoded) <= 200:
        return name
    return f"{encoded[:180].decode(errors='ignore')}...{hashlib.sha256(encoded).hexdigest()[:8]}"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _status(state: str, command: str, began: str, **more: object) -> dict[str, object]:
    """Return the content of status.json. The command has the key "verb"."""
    status: dict[str, object] = {
        "state": state,
        "verb": command,
        "began": began,
        "since": _now(),
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }
    launch = processes().launch
    if launch is not None:
        status["launch"] = launch
    return {**status, **more}


class RunDirectory:
    """The files of one run. Methods that write raise OSError if a file cannot be written."""

    def __init__(
        self,
        path: Path,
        command: str = "train",
        lock: Lock | None = None,
        began: str = "",
    ) -> None:
        self.path = path
        self.command = command
        self.began = began
        self._lock = lock
        path.mkdir(parents=True, exist_ok=True)

    def release(self) -> None:
        """Release the lock. The system also releases it when the process ends."""
        if self._lock is not None:
            self._lock.release()

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints, and create it if it is missing."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder

    def write_text(self, name: str, text: str, *, sync: bool = True) -> None:
        """Write text as UTF-8. Escape surrogates, which stand for undecodable file names."""
        content = text.encode(errors="backslashreplace")
        write_atomically(self.path / name, lambda file: file.write(content), sync=sync)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        self.write_text(name, json.dumps(values, indent=2) + "\n")

    def write_rows(
        self, name: str, rows: Sequence[Mapping[str, object]], *, sync: bool = True
    ) -> None:
        """Write a CSV file with a header and a line for each row. Floats keep every digit."""
        text = io.StringIO()
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(name, text.getvalue(), sync=sync)

    def append_row(self, name: str, row: Mapping[str, object]) -> None:
        """Append a line to a CSV file that `write_rows` has written with the same columns."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(row.values())
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(text.getvalue())

    def set_status(self, state: str, **more: object) -> None:
        self.write_json(STATUS, _status(state, self.command, self.began, **more))

    @contextmanager
    def recorded_status(self) -> Iterator[None]:
        """Record in status.json how the block ended: finished, interrupted or failed.

        Release the lock of the run afterwards.
        """
        try:
            yield
            self.set_status("finished")
        except BaseException as error:
            stop = _interruption(error)
            if stop is not None:
                with suppress(OSError):  # a full disk must not hide the interruption
                    self.set_status("interrupted", error=type(stop).__name__)
                raise stop from None
            known = error if isinstance(error, CnnbenchError) else from_machine(error)
            code, message = 1, f"{type(error).__name__}: {error}"
            if known is not None:
                code, message = known.exit_code, str(known)
            trace = traceback.format_exc()
            with suppress(OSError):
                self.set_status("failed", exit_code=code, error=message, traceback=trace)
            raise
        finally:
            self.release()


def _interruption(error: BaseException | None) -> BaseException | None:
    """Return the KeyboardInterrupt or SystemExit that caused `error`, or None.

    Before 3.12 Python turns an interruption at the end of a class body into a RuntimeError. A
    CnnbenchError counts as an error of the run, whatever its cause.
    """
    while error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
        if isinstance(error, CnnbenchError):
            return None
        error = error.__cause__ or error.__context__
    return error
