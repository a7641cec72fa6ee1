"""What can go wrong, one class per exit code.

The message of each says what was given, what is allowed and what to do next; the command line prints
it as it stands and exits with the code. Any other exception is a bug: traceback, exit code 1.
"""

import difflib
import errno
import unicodedata
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "CnnbenchError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "did_you_mean",
    "from_machine",
    "is_harmless",
    "is_out_of_memory",
]


class CnnbenchError(Exception):
    """An error that a person can mend. Never raised itself: its children are."""

    exit_code: int


class ConfigError(CnnbenchError):
    """Bad usage or configuration, or a place that cannot be written to."""

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
    forms = ("DefaultCPUAllocator: can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
    return type(error).__name__ == "OutOfMemoryError" or any(form in str(error) for form in forms)


# What the machine says when it will not take or give a file; anything else from the system is a bug.
REFUSALS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR,
    errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ELOOP,
}  # fmt: skip


# What the loader of libraries, the system and threads say if the process may have no more memory.
LACK_OF_MEMORY = ("failed to map segment", "Cannot allocate memory", "can't start new thread")


def from_machine(error: BaseException) -> CnnbenchError | None:
    """What the machine refuses, memory or a file, as an error for people; None if it is anything else."""
    if isinstance(error, RuntimeError) and is_out_of_memory(error):
        reason = str(error).partition("\n")[0]
        return ConfigError(
            f"The memory of the device does not suffice: {reason}\n"
            "Lower train.batch_size or data.resize. cnnbench summary estimates what training takes."
        )
    lines = str(error).splitlines()
    reasons = [line for line in lines if any(form in line for form in LACK_OF_MEMORY)]
    if isinstance(error, MemoryError) or reasons:
        reason = (*reasons, *lines, "no more can be had")[0]
        return ConfigError(
            f"The memory of this process does not suffice: {reason}.\n"
            "Raise its limit (ulimit -v, or that of the container or job). cnnbench doctor shows it."
        )
    if not isinstance(error, OSError) or error.errno not in REFUSALS:
        return None
    place = error.filename or "the run directory or the output"
    if error.errno == errno.ENOENT:
        return ConfigError(f"{place} is gone: its folder was moved or deleted while it was in use.")
    return ConfigError(
        f"{place} cannot be written: {error.strerror}. "
        "Free space or permit writing there, or name another place with hydra.run.dir=DIR."
    )


MANY = 60  # words, more than which no message lists all


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """``Did you mean 'x'?`` and the allowed words, for the end of an error message."""
    words = sorted(allowed)
    if not words:
        return "There are none."
    near = difflib.get_close_matches(word, words, n=1)
    guess = f"Did you mean '{near[0]}'? " if near else ""
    if len(words) > MANY:
        return f"{guess}There are {len(words):,}, such as {', '.join(words[:5])}."
    return f"{guess}Allowed: {', '.join(words)}."


JOINERS = "\u200c\u200d"  # between letters of many scripts, and in emoji


def is_harmless(character: str) -> bool:
    """Return whether a character can be shown on a terminal without steering it."""
    if character.isprintable() or character in JOINERS:
        return True
    return unicodedata.category(character) == "Zs"  # spaces of all kinds
