"""Prepare the process: streams that cannot end a run, and libraries that talk or need a place.

Libraries read what is set for them when they are imported, so this comes before torch.
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

SIGPIPE_CODE = 141  # as if the process had been killed when its reader left

# What the tool prints beyond ASCII, for terminals that cannot show it. All else is escaped: \u5b66.
_ASCII = str.maketrans({"±": "+-", "×": "x", "·": "*", "…": "...", "→": "->"})

OWN = ("cnnbench", "hydra", "hydra_plugins", "submitit")
# torch's C++ part warns in the name of the line that called it, which is one of cnnbench
LIBRARY_FOLDERS = (
    "/site-packages/",
    "/dist-packages/",
    str(Path(warnings.__file__).parent),
    str(Path(__file__).parents[1]),
)

log = logging.getLogger("cnnbench")


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
            io.BufferedWriter(_LossyFile(descriptor, "w", closefd=False)),
            stream.encoding,
            "cnnbench",
            line_buffering=stream.line_buffering or name == "stderr",
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
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("cnnbench", _replace)


def silence_libraries() -> None:
    """Hide warnings of other libraries, unless the user has set how to show them.

    Warnings of a custom model are shown, and that CUDA does not start is logged.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns that it lists fonts
    os.environ.setdefault("TORCH_LOGS", "-all")  # torch's handlers show errors alone
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime warns if it has no home
    if not sys.warnoptions and warnings.showwarning is not _show_warning:
        warnings.showwarning = _show_warning


_show_as_python_does = warnings.showwarning


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, *place: Any, **more: Any
) -> None:
    if not _is_library(filename):
        _show_as_python_does(message, category, filename, *place, **more)
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
    """Put caches into the temporary folder if a library has no place of its own.

    Without one, matplotlib lists the fonts anew in each process. Without the name of the user, the
    compiler of some releases of torch fails. What the user has set stays.
    """
    with suppress(OSError):  # no temporary folder either: each library says what it lacks
        if not os.environ.get("MPLCONFIGDIR") and not _matplotlib_has_place():
            os.environ["MPLCONFIGDIR"] = str(temporary_cache() / "matplotlib")
        if not os.environ.get("TORCHINDUCTOR_CACHE_DIR") and not _user_has_name():
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(temporary_cache() / "torchinductor")


def _matplotlib_has_place() -> bool:
    try:
        home = Path.home()
    except RuntimeError:
        return False
    if sys.platform != "linux":
        return is_writable(home / ".matplotlib")
    config = os.environ.get("XDG_CONFIG_HOME") or home / ".config"
    cache = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return is_writable(Path(config, "matplotlib")) and is_writable(Path(cache, "matplotlib"))


def _user_has_name() -> bool:
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return False
    return True
