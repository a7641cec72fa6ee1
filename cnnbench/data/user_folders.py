"""Folders of the user, who may have no home: a container may run under a bare number."""

import os
from contextlib import suppress
from pathlib import Path

from cnnbench.errors import ConfigError

__all__ = [
    "expand_user",
    "find_existing_parent",
    "is_writable",
    "temporary_cache",
    "user_cache",
]


def expand_user(path: str | Path) -> Path:
    """Return `path` with the home folder in place of its ~, or as it is if no home is known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user, or no home folder
        return Path(path)


def user_cache() -> Path:
    """Return the user's cache folder of cnnbench, or a temporary one where that cannot be made.

    Raises:
        ConfigError: there is neither.
    """
    from platformdirs import user_cache_path

    with suppress(RuntimeError):  # old releases return "~/.cache" if there is no home
        cache = user_cache_path("cnnbench")
        if cache.is_absolute() and (cache.is_dir() or is_writable(cache)):
            return cache
    try:
        return temporary_cache()
    except OSError as error:
        raise ConfigError(
            f"There is neither a home nor a temporary folder for the cache: {error}. "
            "Set XDG_CACHE_HOME to a folder of yours."
        ) from error


def temporary_cache() -> Path:
    """Make a folder of this user's in the temporary folder, the same one each time; return it.

    Raises:
        OSError: it cannot be made, or another user has made it.
    """
    import tempfile  # here, as every command would wait for it

    folder = Path(tempfile.gettempdir()) / f"cnnbench-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder


def is_writable(folder: Path) -> bool:
    """Return whether files can be made in `folder`, which itself may have to be made first."""
    place = find_existing_parent(folder)
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def find_existing_parent(folder: Path) -> Path:
    """Return `folder`, or the nearest folder above it that exists."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
