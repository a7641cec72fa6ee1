"""End the process of a command without Python's teardown, which takes 0.6 s once torch is imported.

Python frees each module and object, and C++ its registries, right before the system frees all of
the memory at once.
"""

import atexit
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from cnnbench.runs.torchrun_env import processes

__all__ = ["QuickExit", "is_program"]

# Profilers and checkers of memory that write their results when the C library ends the process.
INJECTED = ("LD_PRELOAD", "CUDA_INJECTION64_PATH")


class QuickExit:
    """An exit handler that ends the process with the exit code `code`; None leaves it to Python.

    Create it before a command imports its libraries. Python first waits for threads and calls the
    handlers in reverse order, so that those of libraries have been called before.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        if is_program(sys.modules["__main__"]):
            atexit.register(self._end)

    def _end(self) -> None:
        # Coverage writes its data in a handler that is called after this one. Other ranks of
        # torchrun may still use what the teardown closes.
        left_to_python = "coverage" in sys.modules or processes().several
        if self.code is None or left_to_python or any(map(os.environ.get, INJECTED)):
            return
        logging.shutdown()  # its handler, too, is called after this one
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it, or it is closed
                stream.flush()
        os._exit(self.code)


def is_program(main: ModuleType) -> bool:
    """Return whether `main`, the module ``__main__``, is the command and nothing else.

    That is the script ``cnnbench`` or ``python -m cnnbench``. A program that calls the command line
    may have its exit code and handlers.
    """
    path = Path(getattr(main, "__file__", None) or "")
    return path.name == "cnnbench" or path.parts[-2:] == ("cnnbench", "__main__.py")
