"""Caches of other libraries, for users without a name or a home folder that can be written."""

import os
import pwd
import sys
from contextlib import suppress
from pathlib import Path

from cnnbench.data.user_folders import is_writable, temporary_cache

__all__ = ["place_third_party_caches"]


def place_third_party_caches() -> None:
    """Put caches into the temporary folder if a library has no place of its own.

    Without one, matplotlib lists the fonts anew in each process. Without the name of the user, the
    compiler of some releases of torch fails. Call this before the libraries are imported, when
    they read the variables. What the user has set stays.
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
    if any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        return True
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True
