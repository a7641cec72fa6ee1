"""Where matplotlib and torch's compiler keep things, for users without a home or a name."""

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from cnnbench.cli.third_party_caches import place_third_party_caches

VARIABLES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the temporary cache; nothing is placed yet, and the user has a home and a name."""
    for name in (*VARIABLES, "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")  # so that it is restored in any case
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("USER", "gauss")
    return tmp_path / f"cnnbench-{os.getuid()}"


def have_no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def placed() -> list[str | None]:
    place_third_party_caches()
    return [os.environ.get(name) for name in VARIABLES]


def test_libraries_keep_their_own_places_in_a_home(cache: Path) -> None:
    assert placed() == [None, None]
    assert not cache.exists()


def test_fonts_are_listed_once_without_a_home(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "home", have_no_home)
    assert placed() == [str(cache / "matplotlib"), None]


def test_fonts_are_listed_once_if_the_home_cannot_be_written(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/dev/null"))
    assert placed() == [str(cache / "matplotlib"), None]


def test_compiler_has_a_place_for_a_user_without_a_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def know_nobody(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", know_nobody)
    assert placed() == [None, str(cache / "torchinductor")]


def test_places_that_the_user_has_named_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", have_no_home)
    monkeypatch.setenv("MPLCONFIGDIR", "/fonts")
    assert placed() == ["/fonts", None]


def test_nothing_is_placed_without_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", have_no_home)
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    assert placed() == [None, None]
