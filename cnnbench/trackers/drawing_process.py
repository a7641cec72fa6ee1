"""A process that draws curves.png, so that matplotlib is imported while the run imports PyTorch.

In one process the two imports follow each other, as Python runs one thread at a time.
"""

import atexit
import os
import pickle
import select
import subprocess
import sys
from contextlib import suppress
from io import BytesIO
from typing import IO, Any

__all__ = ["DrawingProcess"]

# The same modules as in this process. The folder of the command is not searched for others.
PROGRAM = """
import sys
sys.path[:] = sys.argv[1:]
from cnnbench.trackers.drawing_process import serve
serve()
"""
TIMEOUT_S = 30.0  # for one picture; matplotlib may have to list the fonts first


class DrawingProcess:
    """The process; it ends with this one, or with `close`.

    It has a session, so that a Ctrl-C in the terminal does not end it before the last picture.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self._end)

    def draw(self, *arguments: Any) -> bytes | None:
        """Return the PNG of the `arguments` of `write_curves`, the file aside.

        Return None if the process fails: it is closed, and the caller draws by itself.
        """
        requests, pictures = self._process.stdin, self._process.stdout
        assert requests is not None
        assert pictures is not None
        try:
            _send(arguments, requests)
            if not select.select([pictures], [], [], TIMEOUT_S)[0]:
                raise TimeoutError
            picture: bytes = pickle.load(pictures)
        except (OSError, ValueError, EOFError, pickle.PickleError):
            self.close()
            return None
        return picture

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _end(self) -> None:
        """Let the process remove its temporary files, and wait until it has ended."""
        if self._process.poll() is None:
            with suppress(OSError, subprocess.TimeoutExpired):
                self._process.communicate(timeout=1)


def serve() -> None:
    """Draw what stdin asks for, until it ends."""
    atexit.register(os._exit, 0)  # called after matplotlib's handlers: no teardown of Python
    from cnnbench.trackers.curves import empty_figure, write_curves

    empty_figure()
    while True:
        try:
            rows, title, steps, select_by = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        file = BytesIO()
        write_curves(rows, title, file, steps, select_by)
        _send(file.getvalue(), sys.stdout.buffer)


def _send(value: object, pipe: IO[bytes]) -> None:
    pickle.dump(value, pipe)
    pipe.flush()
