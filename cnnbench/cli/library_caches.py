"""Caches of other libraries, for users whose home folder cannot be written, or who have no home or no name."""

import getpass
import os
import sys
from contextlib import suppress
from pathlib import Path

from cnnbench.data.user_folders import is_writable, temporary_cache

__all__ = ["place_library_caches"]


def place_library_caches() -> None:
    """Put caches into the temporary folder where a library has no place of its own, unless the user has named one.

    Without a place to keep it, matplotlib makes its list of fonts anew in each process. Without the name of the user,
    compilers of some releases of torch fail. Call this before the libraries are imported, when they read the variables.
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
    places = {"XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache"}
    return all(is_writable(Path(os.environ.get(name) or home / path, "matplotlib")) for name, path in places.items())


def _user_has_name() -> bool:
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # of Python before 3.13, of later ones, and where there is no pwd
        return False
    return True
