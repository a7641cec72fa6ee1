"""Home and cache folders, with and without a home."""

import os
import tempfile
from pathlib import Path

import platformdirs
import pytest

from cnnbench.data import user_folders
from cnnbench.data.catalog import get
from cnnbench.data.public_files import cache_folder, find_files
from cnnbench.data.user_folders import expand_user, is_writable, temporary_cache, user_cache
from cnnbench.errors import ConfigError

UNKNOWN_HOME = "~no-such-user/data"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the temporary folder of a user without a home."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def remove_home(monkeypatch: pytest.MonkeyPatch, answer: str | None) -> None:
    """Let platformdirs return `answer`, as old releases do, or raise, as new releases do."""

    def find(name: str) -> Path:
        if answer is None:
            raise RuntimeError("could not determine the home directory")
        return Path(answer)

    monkeypatch.setattr(platformdirs, "user_cache_path", find)


@pytest.mark.parametrize("answer", [None, "~/.cache/cnnbench"], ids=["error", "relative path"])
def test_cache_of_a_user_without_a_home_is_in_the_temporary_folder(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    remove_home(monkeypatch, answer)
    cache = user_cache()
    assert cache == temporary / f"cnnbench-{os.getuid()}"
    assert cache.stat().st_mode & 0o777 == 0o700
    assert user_cache() == cache


def test_temporary_cache_that_is_a_link_is_refused(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary / "theirs").mkdir()
    (temporary / f"cnnbench-{os.getuid()}").symlink_to(temporary / "theirs")
    remove_home(monkeypatch, None)
    with pytest.raises(PermissionError, match="belongs to another user"):
        temporary_cache()
    with pytest.raises(ConfigError, match=r"belongs to another user.*XDG_CACHE_HOME"):
        user_cache()


def test_temporary_cache_of_another_owner_is_refused(
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = os.getuid()
    (temporary / f"cnnbench-{mine + 1}").mkdir()
    monkeypatch.setattr(user_folders.os, "getuid", lambda: mine + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        temporary_cache()


def test_unknown_user_in_tilde_path_leaves_it_unchanged() -> None:
    assert expand_user(UNKNOWN_HOME) == Path(UNKNOWN_HOME)


def test_data_root_in_an_unknown_home_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.root=~no-such-user/data: ~no-such-user stands"):
        cache_folder(UNKNOWN_HOME)


def test_data_folder_in_an_unknown_home_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNBENCH_DATA", UNKNOWN_HOME)
    assert find_files(get("sample")).missing == []


def test_missing_folder_is_writable_if_its_parent_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_writable(tmp_path / "new" / "newer")
    assert not is_writable(tmp_path / "file")
    assert not is_writable(tmp_path / "file" / "new")
    assert not is_writable(Path("/dev/null/new"))
