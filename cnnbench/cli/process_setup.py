"""Prepare the process: protect the standard streams, silence libraries and place their caches.

Libraries read these settings when they are imported, so this must run before PyTorch is imported.
"""

import codecs
import getpass
import io
import logging
import os
import select
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnbench.data.user_folders import is_writable, temporary_cache

__all__ = [
    "SIGPIPE_CODE",
    "OwnLines",
    "discard_unwritten",
    "open_missing_streams",
    "place_third_party_caches",
    "shield_stream",
    "silence_libraries",
]

SIGPIPE_CODE = 141  # the exit code of a process that SIGPIPE ends

# ASCII for the signs that cnnbench prints, for terminals without them. Others are escaped: \u5b66.
_ASCII = str.maketrans({"±": "+-", "×": "x", "·": "*", "…": "...", "→": "->"})

OWN = ("cnnbench", "hydra", "hydra_plugins", "submitit")
# Warnings of PyTorch's C++ code name the Python line that called it, which is in cnnbench.
LIBRARY_FOLDERS = (
    "/site-packages/",
    "/dist-packages/",
    str(Path(warnings.__file__).parent),
    str(Path(__file__).parents[1]),
)

log = logging.getLogger("cnnbench")


def open_missing_streams() -> None:
    """Open the null device in place of standard streams that are closed, as by ``2>&-``.

    Otherwise the next file that is opened gets the stream's file descriptor. If that file is a
    checkpoint, printed lines would be written into it.
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
    """Make sys.stdout or sys.stderr print any text, whatever its encoding.

    If `lossy`, discard output that the system refuses, instead of raising an error. A stream that
    Python did not open is left alone.
    """
    logging.raiseExceptions = False  # also discard log lines that cannot be written
    stream = getattr(sys, name)
    if not isinstance(stream, io.TextIOWrapper):
        return
    with suppress(OSError):
        stream.reconfigure(errors="cnnbench")
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream in memory
        return
    if lossy:
        shielded = io.TextIOWrapper(
            io.BufferedWriter(_LossyFile(descriptor, "w", closefd=False)),
            stream.encoding,
            "cnnbench",
            line_buffering=stream.line_buffering or name == "stderr",
            write_through=stream.write_through,
        )
        setattr(sys, name, shielded)


def discard_unwritten() -> None:
    """Discard unwritten output of stdout, so that Python does not report it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _LossyFile(io.FileIO):
    """A file descriptor to which every write succeeds. Output that fails is lost."""

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # full and not blocking: wait
                select.select([], [self], [])
        except OSError:
            return memoryview(data).nbytes
        return written


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace the signs that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("cnnbench", _replace)


def silence_libraries() -> None:
    """Hide warnings of other libraries, unless the user has set how to show them.

    Warnings of a custom model are shown. If CUDA does not start, the reason is logged.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns when it lists fonts
    os.environ.setdefault("TORCH_LOGS", "-all")  # PyTorch then logs only errors
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime warns without a home folder
    if not sys.warnoptions and warnings.showwarning is not _show_warning:
        warnings.showwarning = _show_warning


_show_python_warning = warnings.showwarning


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, *place: Any, **more: Any
) -> None:
    if not _is_library(filename):
        _show_python_warning(message, category, filename, *place, **more)
    elif str(message).startswith("CUDA initialization"):
        log.warning("PyTorch finds no GPU. %s", str(message).partition("\n")[0])


class OwnLines(logging.Filter):
    """A filter that passes lines of cnnbench and Hydra, library errors and custom model warnings.

    `verbose` is hydra.verbose. Loggers that it names pass, too. If it is true, all lines of custom
    models pass.
    """

    def __init__(self, verbose: bool | str | Sequence[str] = False) -> None:
        super().__init__()
        if isinstance(verbose, str):
            verbose = [verbose]
        names = OWN if isinstance(verbose, bool) else (*OWN, *verbose)
        self.prefixes = tuple(f"{name}." for name in names)
        self.custom_level = logging.DEBUG if verbose is True else logging.WARNING

    def filter(self, record: logging.LogRecord) -> bool:
        if f"{record.name}.".startswith(self.prefixes):
            return True
        level = logging.ERROR if _is_library(record.pathname) else self.custom_level
        return record.levelno >= level


def _is_library(path: str) -> bool:
    return any(folder in path for folder in LIBRARY_FOLDERS)


def place_third_party_caches() -> None:
    """Put caches of libraries into the temporary folder if their default folders are missing.

    Without a cache, matplotlib lists the fonts in each process. For a user without a name, the
    compiler of some releases of PyTorch fails. Folders that the user has set stay.
    """
    with suppress(OSError):  # without a temporary folder, each library reports its problem
        if not os.environ.get("MPLCONFIGDIR") and not _has_matplotlib_folders():
            os.environ["MPLCONFIGDIR"] = str(temporary_cache() / "matplotlib")
        if not os.environ.get("TORCHINDUCTOR_CACHE_DIR") and not _has_user_name():
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(temporary_cache() / "torchinductor")


def _has_matplotlib_folders() -> bool:
    try:
        home = Path.home()
    except RuntimeError:
        return False
    if sys.platform != "linux":
        return is_writable(home / ".matplotlib")
    config = os.environ.get("XDG_CONFIG_HOME") or home / ".config"
    cache = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return is_writable(Path(config, "matplotlib")) and is_writable(Path(cache, "matplotlib"))


def _has_user_name() -> bool:
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return False
    return True
