"""A run directory: claimed by one run, and written so that no reader ever sees half a file."""

import csv
import errno
import hashlib
import io
import json
import logging.config
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from cnnbench.config import Config, external_targets, format_override, join_words
from cnnbench.errors import (
    NOT_SUPPORTED,
    CnnbenchError,
    ConfigError,
    explain_write_error,
    from_machine,
)
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
    "reopen",
    "require_empty",
    "resume_command",
    "write_atomically",
]

log = logging.getLogger("cnnbench")

STATUS, DATASET, LOCK = "status.json", "dataset.json", ".lock"
OTHER = "Name another directory (hydra.run.dir=DIR or sweep=NAME), or leave it to cnnbench."
WAIT_S = 1.0  # for a lock that someone holds for a moment to see whether it is free


def claim(directory: Path, verb: str = "train") -> "RunDirectory | None":
    """Make `directory` the run's own: of many processes that try, one gets it, the others None.

    Raises:
        OSError: the directory cannot be made or written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = Lock(directory / LOCK)
    if (directory / STATUS).exists() or not lock.acquire():
        return None
    try:
        began = _now()
        with (directory / STATUS).open("x") as file:  # where there are no locks this alone decides
            json.dump(_status("running", verb, began), file)
    except OSError as error:
        lock.release()
        if isinstance(error, FileExistsError):
            return None
        raise
    return RunDirectory(directory, verb, lock, began)


def require_empty(directory: Path, *marks: str) -> None:
    """Check that `directory` is empty, is still to be made, or has a file of the names `marks`.

    Raises:
        ConfigError: it has other files alone, which are not to be mixed with those of a run.
    """
    try:
        # a rival that is about to claim it has the lock
        names = {path.name for path in directory.iterdir()} - {LOCK}
    except OSError:  # there is none, or claiming it says what is wrong
        return
    if names and names.isdisjoint(marks):
        raise ConfigError(f"'{directory}' already exists and is not an empty folder. {OTHER}")


def claim_exactly(directory: Path, verb: str = "train") -> "RunDirectory":
    """Claim the directory that was asked for by name.

    Raises:
        ConfigError: it already holds a run, or cannot be written to.
    """
    run = _claim_or_explain(directory, verb)
    if run is None:
        resume = join_words([*processes().program(), "resume", str(directory)])
        hint = f"\nTo resume that run: {resume}" if verb == "train" else ""
        held = f"{directory} already holds a run, and a run directory is never used twice"
        raise ConfigError(f"{held}. {OTHER}{hint}")
    return run


def claim_new(wanted: Path, verb: str = "train") -> "RunDirectory":
    """Claim `wanted` or, where it belongs to another run, the first free of `wanted`_2, _3, ...

    Raises:
        ConfigError: the directory cannot be made or written to.
    """
    directory, number = wanted, 2
    while (run := _claim_or_explain(directory, verb)) is None:
        directory = wanted.parent / f"{wanted.name}_{number}"
        number += 1
    return run


def _claim_or_explain(directory: Path, verb: str) -> "RunDirectory | None":
    """Claim a directory as `claim` does; an error of the machine names the option for another."""
    try:
        return claim(directory, verb)
    except OSError as error:
        advice = "Name another place: hydra.run.dir=DIR."
        raise explain_write_error(error.filename or directory, error, advice) from error


@contextmanager
def reopen(directory: Path, began: str) -> "Iterator[RunDirectory]":
    """Hold the directory of a training run that is not running any more, for the block.

    `began` is the time at which its status says that it began.

    Raises:
        ConfigError: it is running; the message says where.
    """
    with Lock(directory / LOCK).taken(WAIT_S) as lock:
        for folder in (directory, directory / "checkpoints"):
            for leftover in folder.glob(".*.tmp"):  # of a writer that was killed
                leftover.unlink()
        yield RunDirectory(directory, "train", lock, began)


def resume_command(directory: Path, config: Config, *changes: str) -> str:
    """Return the command line that resumes a run with `changes`, words KEY=VALUE."""
    words = [*processes().program(), "resume", os.path.relpath(directory)]
    targets = external_targets(config)
    targets.pop("data.path", None)  # which the checkpoint is trusted with
    words += [format_override(key, value) for key, value in targets.items()]
    words += ["--allow-custom-model"] if ":" in config.model.name else []
    return join_words([*words, *changes])


def log_to(directory: Path, conf: Path) -> None:
    """Log on the terminal and in a run's train.log, as in a run that Hydra starts.

    `conf` is the folder of the YAMLs.

    Raises:
        OSError: train.log cannot be written.
    """
    path = conf / "hydra" / "job_logging" / "plain.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["handlers"]["file"]["filename"] = str(directory / "train.log")
    settings["filters"]["own"]["verbose"] = False  # Hydra's switch, which is not at hand here
    try:
        logging.config.dictConfig(settings)
    except ValueError as error:  # which is what becomes of a train.log that cannot be opened
        raise error.__cause__ or error from None


def job_directory_name(overrides: str) -> str:
    """The overrides of a job as the name of one directory, which may have no slash and 255 bytes."""
    name = overrides.replace("/", "_") or "as_configured"
    encoded = name.encode(errors="surrogateescape")  # bytes of the command line may be no UTF-8
    if len(encoded) <= 200:
        return name
    return f"{encoded[:180].decode(errors='ignore')}...{hashlib.sha256(encoded).hexdigest()[:8]}"


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Replace `path` with what `write` puts into the file it is given.

    No reader sees half a file. With `sync` the file is on disk before it is seen. A file that can
    be made again needs no `sync`, which may take seconds.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # which follows no link
            write(file)
            file.flush()
            if sync:
                _sync(file.fileno(), path)
        temporary.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        error.filename = str(path)  # not of the temporary file, or of none, as for a full disk
        raise
    finally:
        with suppress(OSError):  # the error of a failing disk is on its way
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Wait until the names of files in `folder` are on disk, if it can be opened for that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ESTALE):
            _warn_once(folder, error)
        return
    try:
        _sync(descriptor, folder)
    finally:
        os.close(descriptor)


def _sync(descriptor: int, path: Path) -> None:
    """Wait until `path` is on disk. Go on where the file system does not support that, or fails.

    What was written can be read as long as the machine stays up, so a run need not end.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if error.errno not in NOT_SUPPORTED:
            _warn_once(path, error)


_warned = False


def _warn_once(path: Path, error: OSError) -> None:
    """Warn, once in a process, that what is written may be lost with the machine."""
    global _warned
    if not _warned:
        _warned = True
        log.warning(
            f"{path} may not be on disk: {error.strerror}. Nothing is lost as long as the machine "
            "stays up. Check the disk or the network share."
        )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _status(state: str, verb: str, began: str, **more: object) -> dict[str, object]:
    launch = processes().launch
    who = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        **({} if launch is None else {"launch": launch}),
    }
    return {"state": state, "verb": verb, "began": began, "since": _now(), **who, **more}


class RunDirectory:
    """The files of one run. All methods that write raise OSError if the disk will not take it."""

    def __init__(
        self,
        path: Path,
        verb: str = "train",
        lock: Lock | None = None,
        began: str = "",
    ) -> None:
        self.path = path
        self.verb = verb
        self.began = began
        self._lock = lock
        path.mkdir(parents=True, exist_ok=True)

    def release(self) -> None:
        """Let another process write here. The end of the process does that too, whatever ends it."""
        if self._lock is not None:
            self._lock.release()

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, made when it is first asked for."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder

    def write_text(self, name: str, text: str, *, sync: bool = True) -> None:
        """Write text as UTF-8. Bytes of a file's name that are no text are escaped."""
        content = text.encode(errors="backslashreplace")
        write_atomically(self.path / name, lambda file: file.write(content), sync=sync)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        self.write_text(name, json.dumps(values, indent=2) + "\n")

    def write_rows(
        self, name: str, rows: Sequence[Mapping[str, object]], *, sync: bool = True
    ) -> None:
        """A CSV file with a line of names and a line for each row; floats keep every digit."""
        text = io.StringIO()
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(name, text.getvalue(), sync=sync)

    def set_status(self, state: str, **more: object) -> None:
        self.write_json(STATUS, _status(state, self.verb, self.began, **more))

    @contextmanager
    def recorded_status(self) -> Iterator[None]:
        """status.json says how the block ended: finished, interrupted or failed, with its error. Releases the run."""
        try:
            yield
            self.set_status("finished")
        except BaseException as error:
            stop = _interruption(error)
            if stop is not None:
                with suppress(OSError):  # a full disk must not hide it
                    self.set_status("interrupted", error=type(stop).__name__)
                raise stop from None
            known = error if isinstance(error, CnnbenchError) else from_machine(error)
            told = f"{type(error).__name__}: {error}" if known is None else str(known)
            code, trace = 1 if known is None else known.exit_code, traceback.format_exc()
            with suppress(OSError):
                self.set_status("failed", exit_code=code, error=told, traceback=trace)
            raise
        finally:
            self.release()


def _interruption(error: BaseException | None) -> BaseException | None:
    """Return what stopped the program, if that is what `error` comes from.

    Before 3.12 Python makes a RuntimeError of an interruption as a class body ends, as in an import.
    """
    while error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
        told = isinstance(error, CnnbenchError)  # whatever it came from, it is meant as it is
        error = None if told else error.__cause__ or error.__context__
    return error
