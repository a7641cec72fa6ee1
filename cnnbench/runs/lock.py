"""A file lock, which the system releases at the end of its process."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnnbench.errors import ConfigError

__all__ = ["Lock"]

POLL_S = 0.02


class Lock:
    """flock(2) on a file. The system releases it when the process ends, even if it is killed.

    Over NFS the server holds it. On a file system without locks `acquire` always succeeds, and
    `is_held` returns None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Acquire the lock. Return False if another process keeps it for `wait_s` seconds."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        give_up_at = time.monotonic() + wait_s
        while _try_lock(descriptor, fcntl.LOCK_EX) is False:
            if time.monotonic() >= give_up_at:
                os.close(descriptor)
                return False
            time.sleep(POLL_S)
        with suppress(OSError):  # on a full disk the lock works without the name of its holder
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def taken(self, wait_s: float) -> "Iterator[Lock]":
        """Hold the lock for the block.

        Raises:
            ConfigError: another process still holds it after `wait_s` seconds.
        """
        if not self.acquire(wait_s):
            user = f"{self.path.parent} is in use: {self.holder()} writes there"
            raise ConfigError(f"{user}. Wait for it, or end it first.")
        try:
            yield self
        finally:
            self.release()

    def is_held(self) -> bool | None:
        """Return whether a process holds the lock; None on a file system without locks."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            was_free = _try_lock(descriptor, fcntl.LOCK_SH)
            return None if was_free is None else not was_free
        finally:
            os.close(descriptor)

    def holder(self) -> str:
        """Return the last process that acquired the lock, such as ``process 7 on gauss``."""
        with suppress(OSError):
            return self.path.read_bytes()[:200].decode(errors="replace") or "another process"
        return "another process"


def _try_lock(descriptor: int, kind: int) -> bool | None:
    """Return whether the lock was free; None if the file system has no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno == errno.EWOULDBLOCK else None
    return True
