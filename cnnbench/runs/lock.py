"""A lock that a process holds to its end, however that comes."""

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
    """flock(2) on a file, which the system lets go of however the process ends.

    Over NFS it is kept by the server. On a file system without locks `acquire` lets everyone in, and
    `is_held` does not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Take the lock; False if another still holds it after `wait_s` seconds."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        give_up_at = time.monotonic() + wait_s
        while _try_lock(descriptor, fcntl.LOCK_EX) is False:
            if time.monotonic() >= give_up_at:
                os.close(descriptor)
                return False
            time.sleep(POLL_S)
        with suppress(OSError):  # on a full disk the lock has no name, but holds
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
            ConfigError: another still holds it after `wait_s` seconds; the message says who.
        """
        if not self.acquire(wait_s):
            user = f"{self.path.parent} is in use: {self.holder()} writes there"
            raise ConfigError(f"{user}. Wait for it, or end it first.")
        try:
            yield self
        finally:
            self.release()

    def is_held(self) -> bool | None:
        """Return whether any process holds the lock now; None where that cannot be known."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            free = _try_lock(descriptor, fcntl.LOCK_SH)
            return None if free is None else not free
        finally:
            os.close(descriptor)

    def holder(self) -> str:
        """Return who took the lock last, such as ``process 7 on gauss``."""
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
