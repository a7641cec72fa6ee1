"""What can go wrong, one class per exit code.

The message of each says what was given, what is allowed and what to do next; the command line prints
it as it stands and exits with the code. Any other exception is a bug: traceback, exit code 1.
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
    """An error that a person can mend. Never raised itself: its children are."""

    exit_code: int


class ConfigError(CnnbenchError):
    """Bad usage or configuration, or a file that the machine refuses."""

    exit_code = 2


class DataError(CnnbenchError):
    """Data missing or damaged."""

    exit_code = 3


class DivergedError(CnnbenchError):
    """Training diverged, or did not learn where it had to."""

    exit_code = 4


class CheckpointError(CnnbenchError):
    """A damaged or refused checkpoint."""

    exit_code = 5


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch says that the memory of the device does not suffice. (Nothing here imports it.)"""
    forms = (
        "DefaultCPUAllocator: can't allocate memory",
        "CUDA error: out of memory",
        "_STATUS_ALLOC_FAILED",
    )
    return type(error).__name__ == "OutOfMemoryError" or any(form in str(error) for form in forms)


# What a file system says to fsync or flock if it has none.
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

# What the system says of a file that may well be sound. A bad sector, EIO, is damage.
UNREACHABLE = (_FORBIDDEN | _LIMITS | _DEVICE) - {errno.EIO}

_ADVICE = (
    (_FULL, "Free space there, or choose another folder."),
    (_READ_ONLY, "Permit writing there, or choose another folder."),
    (_FORBIDDEN, "Permit access to it, or choose another folder."),
    (_NAMES, "Choose another folder."),
    (_LIMITS, "Close other programs or raise the limit (ulimit -a), and try again."),
    (_DEVICE, "Check the disk or the network share, and try again."),
)


# What the loader of libraries, the system and threads say if the process may have no more memory.
LACK_OF_MEMORY = ("failed to map segment", "Cannot allocate memory", "can't start new thread")


def from_machine(error: BaseException) -> CnnbenchError | None:
    """Return what the machine refuses, memory or a file, as an error for people; None for others.

    An error of the system that names no file is one of the machine if a disk, a device or a limit
    can be its cause. Any other is a bug.
    """
    if isinstance(error, RuntimeError) and is_out_of_memory(error):
        reason = str(error).partition("\n")[0]
        return ConfigError(
            f"The memory of the device does not suffice: {reason}\n"
            "Lower train.batch_size or data.resize. cnnbench summary estimates what training takes."
        )
    lines = str(error).splitlines()
    reasons = [line for line in lines if any(form in line for form in LACK_OF_MEMORY)]
    is_of_file = getattr(error, "filename", None) is not None
    if isinstance(error, MemoryError) or (reasons and not is_of_file):
        reason = (*reasons, *lines, "no more can be had")[0]
        return ConfigError(
            f"The memory of this process does not suffice: {reason}.\n"
            "Raise its limit (ulimit -v, of threads ulimit -u, or that of the container or job). "
            "cnnbench doctor shows it."
        )
    if not isinstance(error, OSError) or error.errno is None:
        return None
    is_named = isinstance(error.filename, (str, bytes, os.PathLike))  # else it is a descriptor
    place = os.fsdecode(error.filename) if is_named else "The run directory or the output"
    if error.errno == errno.ENOENT:
        return ConfigError(f"{place} is gone: its folder was moved or deleted while it was in use.")
    advice = next((advice for kind, advice in _ADVICE if error.errno in kind), None)
    if not is_named and (advice is None or error.errno == errno.EBADF):
        return None
    written = " cannot be written" if error.errno in _FULL | _READ_ONLY else ""
    return ConfigError(f"{place}{written}: {error.strerror}. {advice or _ADVICE[-1][1]}")


def explain_write_error(place: object, error: OSError, advice: str) -> ConfigError:
    """Return the error that `place` cannot be written, with advice."""
    path = Path(str(place))
    if path.is_symlink() and not os.access(path, os.F_OK):
        return ConfigError(f"{place} is a link to nothing. {advice}")
    if error.errno in _LIMITS:
        advice = next(advice for kind, advice in _ADVICE if error.errno in kind)
    return ConfigError(f"{place} cannot be written: {error.strerror}. {advice}")


def format_count(number: int, noun: str) -> str:
    """Return a number of things in words: 1 run, 2,000 runs, 3 classes."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


MANY = 60  # words, more than which no message lists all


# what users of other tools type, less case, - and _, and the word for it here
SYNONYMS = {
    **{"gpu": "cuda", "half": "fp16", "float16": "fp16", "bfloat16": "bf16"},
    **{"float32": "fp32", "float64": "fp64", "he": "kaiming_normal", "glorot": "xavier_uniform"},
    **{"ce": "cross_entropy", "fmnist": "fashion_mnist", "images": "folder", "tb": "tensorboard"},
    **{"learningrate": "lr", "bs": "batch_size", "batch": "batch_size", "wd": "weight_decay"},
    **{"imgsz": "resize", "imagesize": "resize", "arch": "model", "network": "model"},
    **{"dataset": "data", "fit": "train", "test": "evaluate", "validate": "evaluate"},
}


def find_similar(word: str, allowed: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the allowed word that was meant: a synonym, or the nearest but for case, - and _.

    A `cutoff` of 1 finds no others than these and the word itself.
    """
    words = {_normalize(known): known for known in sorted(map(str, allowed))}
    typed = _normalize(word)
    meant = _normalize(SYNONYMS.get(typed, ""))
    near = [meant] if meant in words else difflib.get_close_matches(typed, words, 1, cutoff)
    return words[near[0]] if near else None


def _normalize(word: str) -> str:
    return re.sub(r"[-_\s]", "", word).lower()


def did_you_mean(word: str, allowed: Iterable[str], group: str = "") -> str:
    """``Did you mean 'x'?`` and the allowed words, for the end of an error message.

    The words may be keys of a `group`: then the whole key is what was meant.
    """
    words = sorted(map(str, allowed))
    if not words:
        return "There are none."
    near = find_similar(word, words)
    whole = f"{group}.{near}" if group else near
    guess = f"Did you mean '{whole}'? " if near else ""
    if len(words) > MANY:
        return f"{guess}There are {len(words):,}, such as {', '.join(words[:5])}."
    return f"{guess}Allowed: {', '.join(words)}."


JOINERS = "\u200c\u200d"  # between letters of many scripts, and in emoji


def is_harmless(character: str) -> bool:
    """Return whether a character can be shown on a terminal without steering it."""
    if character.isprintable() or character in JOINERS:
        return True
    return unicodedata.category(character) == "Zs"  # spaces of all kinds
