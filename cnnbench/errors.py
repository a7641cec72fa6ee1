"""What can go wrong, one class per exit code.

The message of each says what was given, what is allowed and what to do next; the command line prints
it as it stands and exits with the code. Any other exception is a bug: traceback, exit code 1.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "CnnbenchError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "did_you_mean",
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


MANY = 60  # words, more than which no message lists all


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """``Did you mean 'x'?`` and the allowed words, for the end of an error message."""
    words = sorted(allowed)
    near = difflib.get_close_matches(word, words, n=1)
    guess = f"Did you mean '{near[0]}'? " if near else ""
    if len(words) > MANY:
        return f"{guess}There are {len(words):,}, such as {', '.join(words[:5])}."
    return f"{guess}Allowed: {', '.join(words)}."
