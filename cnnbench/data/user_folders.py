"""Home and cache folders of the user, who may have no home, as in a container."""

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
    """Return `path` with ~ replaced by the home folder, or unchanged if no home is known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user, or no home folder
        return Path(path)


def user_cache() -> Path:
    """Return the user's cache folder of cnnbench, or a temporary one if that cannot be created.

    Raises:
        ConfigError: neither folder can be created.
    """
    from platformdirs import user_cache_path

    with suppress(RuntimeError):  # without a home, old releases return "~/.cache"
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
    """Create the user's folder in the temporary folder, unless it exists, and return it.

    Raises:
        OSError: it cannot be created, or belongs to another user.
    """
    import tempfile  # imported here, so that other commands start faster

    folder = Path(tempfile.gettempdir()) / f"cnnbench-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder


def is_writable(folder: Path) -> bool:
    """Return whether files can be created in `folder`, which need not exist yet."""
    existing = find_existing_parent(folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def find_existing_parent(folder: Path) -> Path:
    """Return `folder`, or the nearest folder above it that exists."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
