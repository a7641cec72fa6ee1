"""Errors the user can fix, with a class for each exit code.

A message has the wrong value, the allowed values and the next step. The command line prints the
message and exits with the code. Any other exception is a bug: it gets a traceback and exit code 1.
"""

import difflib
import errno
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "NOT_SUPPORTED",
    "UNREACHABLE",
    "CheckpointError",
    "CnnbenchError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "did_you_mean",
    "explain_write_error",
    "find_similar",
    "format_count",
    "from_machine",
    "is_harmless",
    "is_out_of_memory",
]


class CnnbenchError(Exception):
    """Base class of errors the user can fix. Raise a subclass."""

    exit_code: int


class ConfigError(CnnbenchError):
    """Wrong usage or configuration, or a file or memory that the system refuses."""

    exit_code = 2


class DataError(CnnbenchError):
    """Missing or damaged data."""

    exit_code = 3


class DivergedError(CnnbenchError):
    """Training that diverged, or that did not learn with train.fail_if_not_learning."""

    exit_code = 4


class CheckpointError(CnnbenchError):
    """A damaged or refused checkpoint."""

    exit_code = 5


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of PyTorch means that the device is out of memory."""
    # The name of the class stands for the class, as this module does not import PyTorch.
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return any(message in str(error) for message in _DEVICE_OUT_OF_MEMORY)


# errors of fsync and flock on file systems that do not support them
NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_NAMES = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
_DEVICE = {
    errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EBUSY, errno.ETXTBSY, errno.EBADF,
    errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNRESET, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOLCK,
    getattr(errno, "EREMOTEIO", errno.EIO),
}  # fmt: skip

# errors of files that may be intact; EIO means a bad sector, so the file is damaged
UNREACHABLE = (_FORBIDDEN | _LIMITS | _DEVICE) - {errno.EIO}

_ADVICE = (
    (_FULL, "Free space there, or choose another folder."),
    (_READ_ONLY, "Permit writing there, or choose another folder."),
    (_FORBIDDEN, "Permit access to it, or choose another folder."),
    (_NAMES, "Choose another folder."),
    (_LIMITS, "Close other programs or raise the limit (ulimit -a), and try again."),
    (_DEVICE, "Check the disk or the network share, and try again."),
)

_DEVICE_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "_STATUS_ALLOC_FAILED",
)
# messages of the library loader, the system and threads when the process is out of memory
_PROCESS_OUT_OF_MEMORY = (
    "failed to map segment",
    "Cannot allocate memory",
    "can't start new thread",
)


def from_machine(error: BaseException) -> CnnbenchError | None:
    """Return an error of memory or of a file as an error the user can fix; None for a bug.

    A system error that names no file is a bug, unless a disk, a device or a limit can cause it.
    """
    if isinstance(error, RuntimeError) and is_out_of_memory(error):
        reason = str(error).partition("\n")[0]
        return ConfigError(
            f"Out of memory: {reason}\n"
            "Lower train.batch_size or data.resize. cnnbench summary estimates what training takes."
        )
    lines = str(error).splitlines()
    reasons = [line for line in lines if any(text in line for text in _PROCESS_OUT_OF_MEMORY)]
    names_file = getattr(error, "filename", None) is not None
    if isinstance(error, MemoryError) or (reasons and not names_file):
        reason = (*reasons, *lines, "no more can be had")[0]
        return ConfigError(
            f"Out of memory in this process: {reason}.\n"
            "Raise its limit (ulimit -v, of threads ulimit -u, or that of the container or job). "
            "cnnbench doctor shows it."
        )
    if not isinstance(error, OSError) or error.errno is None:
        return None
    is_named = isinstance(error.filename, (str, bytes, os.PathLike))  # not a descriptor
    place = os.fsdecode(error.filename) if is_named else "The run directory or the output"
    if error.errno == errno.ENOENT:
        return ConfigError(f"{place} is gone: its folder was moved or deleted while it was in use.")
    advice = next((advice for numbers, advice in _ADVICE if error.errno in numbers), None)
    if not is_named and (advice is None or error.errno == errno.EBADF):
        return None
    problem = " cannot be written" if error.errno in _FULL | _READ_ONLY else ""
    return ConfigError(f"{place}{problem}: {error.strerror}. {advice or _ADVICE[-1][1]}")


def explain_write_error(place: object, error: OSError, advice: str) -> ConfigError:
    """Return the error for a `place` that cannot be written, with advice on what to do."""
    path = Path(str(place))
    if path.is_symlink() and not os.access(path, os.F_OK):
        return ConfigError(f"{place} is a broken link. {advice}")
    if error.errno in _LIMITS:
        advice = next(advice for numbers, advice in _ADVICE if error.errno in numbers)
    return ConfigError(f"{place} cannot be written: {error.strerror}. {advice}")


def format_count(number: int, noun: str) -> str:
    """Return a count with its noun: 1 run, 2,000 runs, 3 classes."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


MAX_LISTED = 60  # words in a message, which otherwise gives examples

# words of other tools, in lower case without - and _, and the words of cnnbench
SYNONYMS = {
    **{"gpu": "cuda", "half": "fp16", "float16": "fp16", "bfloat16": "bf16"},
    **{"float32": "fp32", "float64": "fp64", "he": "kaiming_normal", "glorot": "xavier_uniform"},
    **{"ce": "cross_entropy", "fmnist": "fashion_mnist", "images": "folder", "tb": "tensorboard"},
    **{"learningrate": "lr", "bs": "batch_size", "batch": "batch_size", "wd": "weight_decay"},
    **{"imgsz": "resize", "imagesize": "resize", "arch": "model", "network": "model"},
    **{"earlystopping": "patience", "earlystop": "patience", "maxtime": "max_minutes"},
    **{"accumulategradbatches": "accumulate", "gradientaccumulation": "accumulate"},
    **{"gradientaccumulationsteps": "accumulate", "gradaccum": "accumulate"},
    **{"classweight": "class_weights", "pretrained": "weights", "checkpoint": "weights"},
    **{"monitor": "select_by", "repeat": "again", "lrfinder": "lr-find", "tune": "lr-find"},
    **{"dataset": "data", "fit": "train", "test": "evaluate", "validate": "evaluate"},
}


def find_similar(word: str, allowed: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the allowed word that was probably meant: a synonym or the most similar word.

    Case, hyphens and underscores do not count. A `cutoff` of 1 allows no other differences.
    """
    words = {_normalize(known): known for known in sorted(map(str, allowed))}
    typed = _normalize(word)
    meant = _normalize(SYNONYMS.get(typed, ""))
    near = [meant] if meant in words else difflib.get_close_matches(typed, words, 1, cutoff)
    return words[near[0]] if near else None


def _normalize(word: str) -> str:
    return re.sub(r"[-_\s]", "", word).lower()


def did_you_mean(word: str, allowed: Iterable[str], group: str = "") -> str:
    """Return ``Did you mean 'x'?`` and the allowed words, for the end of an error message.

    If the words are keys of a `group`, the suggestion is the dotted key.
    """
    words = sorted(map(str, allowed))
    if not words:
        return "There are none."
    near = find_similar(word, words)
    meant = f"{group}.{near}" if group else near
    guess = f"Did you mean '{meant}'? " if near else ""
    if len(words) > MAX_LISTED:
        return f"{guess}There are {len(words):,}, such as {', '.join(words[:5])}."
    return f"{guess}Allowed: {', '.join(words)}."


JOINERS = "\u200c\u200d"  # between letters of many scripts, and in emoji


def is_harmless(character: str) -> bool:
    """Return whether a character can be printed on a terminal without controlling it."""
    if character.isprintable() or character in JOINERS:
        return True
    return unicodedata.category(character) == "Zs"  # spaces of all kinds
