"""Standard streams that cannot end a run, whatever becomes of the terminal, disk or pipe behind."""

import codecs
import io
import logging
import os
import select
import sys
from contextlib import suppress
from typing import Any

__all__ = ["SIGPIPE_CODE", "discard_unwritten", "open_missing_streams", "shield_stream"]

SIGPIPE_CODE = 141  # as if the process had been killed when its reader left

# What the tool prints beyond ASCII, for terminals that cannot show it. All else is escaped: \u5b66.
_ASCII = {"±": "+-", "×": "x", "·": "*", "…": "...", "→": "->"}


def open_missing_streams() -> None:
    """Open the null device in place of standard streams that were closed, as by ``2>&-``.

    Else the next file that is opened, perhaps a checkpoint, gets their number and what is printed.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            mode = "r" if descriptor == 0 else "w"
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))


def shield_stream(name: str, *, lossy: bool) -> None:
    """Let sys.stdout or sys.stderr print any text.

    If `lossy`, discard what the system does not take, in place of an error. A stream that is not
    Python's own is left alone.
    """
    logging.raiseExceptions = False  # a line of the log that cannot be written is lost, too
    stream = getattr(sys, name)
    if not isinstance(stream, io.TextIOWrapper):
        return
    with suppress(OSError):
        stream.reconfigure(errors="cnnbench")
    try:
        descriptor = stream.fileno()
    except OSError:  # it is kept in memory
        return
    if lossy:
        shielded = io.TextIOWrapper(
            io.BufferedWriter(_LossyFile(descriptor)),
            stream.encoding,
            "cnnbench",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, shielded)


def discard_unwritten() -> None:
    """Discard what stdout did not take, so that Python does not report it when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _LossyFile(io.FileIO):
    """A file descriptor to which every write succeeds. What it does not take is lost."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # it is full and does not block: wait
                select.select([], [self], [])
        except OSError:
            return memoryview(data).nbytes
        return written


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    replaced = ""
    for sign in error.object[error.start : error.end]:
        replaced += _ASCII.get(sign) or sign.encode("ascii", "backslashreplace").decode()
    return replaced, error.end


codecs.register_error("cnnbench", _replace)
