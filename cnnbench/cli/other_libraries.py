"""Keep what other libraries log and warn of out of the output, except errors."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

__all__ = ["OwnLines", "silence_libraries"]

OWN = ("cnnbench", "hydra", "hydra_plugins", "submitit")
# torch's C++ part warns in the name of the line that called it, which is one of cnnbench
LIBRARY_FOLDERS = (
    *("/site-packages/", "/dist-packages/", str(Path(warnings.__file__).parent)),
    str(Path(__file__).parents[1]),
)

log = logging.getLogger("cnnbench")


def silence_libraries() -> None:
    """Hide warnings of other libraries, unless the user has set how to show them.

    Call this before torch is imported. Warnings of a custom model are shown, and that CUDA does
    not start is logged.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns that it lists fonts
    os.environ.setdefault("TORCH_LOGS", "-all")  # torch's handlers show errors alone
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime warns if it has no home
    if not sys.warnoptions and warnings.showwarning is not _show_warning:
        warnings.showwarning = _show_warning


_show_as_python_does = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if not _is_library(filename):
        _show_as_python_does(message, category, filename, lineno, file, line)
    elif str(message).startswith("CUDA initialization"):
        log.warning("PyTorch finds no GPU. %s", str(message).partition("\n")[0])


class OwnLines(logging.Filter):
    """Pass the lines of cnnbench and Hydra, errors of libraries, and warnings of custom models.

    `verbose` is hydra.verbose: loggers that it names pass, too. If it is true, all lines of custom
    models pass.
    """

    def __init__(self, verbose: bool | str | Sequence[str] = False) -> None:
        super().__init__()
        if isinstance(verbose, str):
            verbose = [verbose]
        self.names = OWN if isinstance(verbose, bool) else (*OWN, *verbose)
        self.custom_level = logging.DEBUG if verbose is True else logging.WARNING

    def filter(self, record: logging.LogRecord) -> bool:
        if any(f"{record.name}.".startswith(f"{name}.") for name in self.names):
            return True
        level = logging.ERROR if _is_library(record.pathname) else self.custom_level
        return record.levelno >= level


def _is_library(path: str) -> bool:
    return any(folder in path for folder in LIBRARY_FOLDERS)
