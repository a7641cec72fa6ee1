"""A run directory: claimed by one run, and written so that no reader ever sees half a file."""

import csv
import io
import json
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from cnnbench.errors import CnnbenchError, ConfigError

__all__ = ["RunDirectory", "claim_exactly", "claim_new", "write_atomically"]

STATUS = "status.json"


def _claim(directory: Path) -> bool:
    """Make `directory` this run's own: of many processes that try, one gets True.

    Raises:
        OSError: the directory cannot be made or written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with (directory / STATUS).open("x") as file:
            json.dump(_status("running"), file)
    except FileExistsError:
        return False
    return True


def claim_exactly(directory: Path) -> None:
    """Claim the directory that was asked for by name.

    Raises:
        ConfigError: it already holds a run.
    """
    if not _claim(directory):
        raise ConfigError(
            f"{directory} already holds a run, and a run directory is never used twice. "
            "Name another (hydra.run.dir=DIR, or sweep=NAME for a sweep) or leave the name to cnnbench."
        )


def claim_new(wanted: Path) -> Path:
    """Claim `wanted` or, where it belongs to another run, the first free of `wanted`_2, _3, ..."""
    directory, number = wanted, 2
    while not _claim(directory):
        directory = wanted.with_name(f"{wanted.name}_{number}")
        number += 1
    return directory


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace `path` with what `write` puts into the file it is given, on disk before it is seen."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _status(state: str, **more: object) -> dict[str, object]:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"state": state, "since": now, "pid": os.getpid(), "host": socket.gethostname(), **more}


class RunDirectory:
    """The files of one run. All methods that write raise OSError if the disk will not take it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, made when it is first asked for."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder

    def write_text(self, name: str, text: str) -> None:
        write_atomically(self.path / name, lambda file: file.write(text.encode()))

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        self.write_text(name, json.dumps(values, indent=2) + "\n")

    def write_rows(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """A CSV file with a line of names and a line for each row; floats keep every digit."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(name, text.getvalue())

    def set_status(self, state: str, **more: object) -> None:
        self.write_json(STATUS, _status(state, **more))

    @contextmanager
    def recorded_status(self) -> Iterator[None]:
        """status.json says how the block ended: finished, interrupted or failed with its error."""
        try:
            yield
        except BaseException as error:
            stop = _interruption(error)
            if stop is not None:
                self._try_status("interrupted", error=type(stop).__name__)
                raise stop from None
            self._try_status("failed", error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
            raise
        self.set_status("finished")

    def _try_status(self, state: str, **more: object) -> None:
        """As `set_status`, while another error is on its way and must not be hidden by a full disk."""
        with suppress(OSError):
            self.set_status(state, **more)


def _interruption(error: BaseException | None) -> BaseException | None:
    """What stopped the program, if that is what `error` comes from.

    Before 3.12 Python makes a RuntimeError of an interruption while a class body ends, as during an import.
    """
    while error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
        told = isinstance(error, CnnbenchError)  # whatever it came from, it is meant as it is
        error = None if told else error.__cause__ or error.__context__
    return error
