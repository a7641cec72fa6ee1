"""Files that are replaced as a whole, on file systems that may be full, failing or slow."""

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cnnbench.errors import NOT_SUPPORTED

__all__ = ["write_atomically"]

log = logging.getLogger("cnnbench")


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Replace the file at `path`. `write` writes the new content to the open file it is given.

    Readers see the old content or all of the new content. With `sync` the new content is on disk
    before readers see it. That may take seconds, so do without it for files that can be recreated.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # mode x does not follow links
            write(file)
            file.flush()
            if sync:
                _sync(file.fileno(), path)
        temporary.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        error.filename = str(path)  # in place of the temporary file or, for a full disk, none
        raise
    finally:
        with suppress(OSError):  # a failing disk has already raised an error
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Wait until the file names in `folder` are on disk. Skip a folder that cannot be opened."""
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
    """Wait until `path` is on disk. Ignore a file system without support, and warn of a failure.

    The content stays readable as long as the machine stays up, so a failure need not end the run.

    Raises:
        OSError: the disk is full.
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
    """Warn, once per process, that content may be lost if the machine goes down."""
    global _warned
    if not _warned:
        _warned = True
        log.warning(
            f"{path} may not be on disk: {error.strerror}. Nothing is lost as long as the machine "
            "stays up. Check the disk or the network share."
        )
