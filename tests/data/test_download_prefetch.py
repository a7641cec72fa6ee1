"""Prefetching: the files of a public data set are read in a thread before they are loaded."""

import shutil
import threading
from pathlib import Path

import pytest
from helpers.data_mirrors import PACKED, Site

from cnnbench.data import cache, download

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")


def test_prefetched_files_are_loaded_once(fashion: Site) -> None:
    fashion.put(fashion.cache)
    fashion.prefetch()
    for future in download._prefetched.values():
        future.result()
    shutil.rmtree(fashion.cache)
    assert fashion.loads()
    cache.clear()
    fashion.error()


def test_prefetched_files_of_another_cache_are_not_loaded(fashion: Site, tmp_path: Path) -> None:
    fashion.put(fashion.cache)
    fashion.prefetch()
    fashion.cache = tmp_path / "elsewhere"
    fashion.error()


def test_load_reports_damaged_prefetched_files(fashion: Site) -> None:
    fashion.put(fashion.cache)
    (fashion.cache / PACKED[0]).write_bytes(b"not gzipped")
    error_without_prefetch = fashion.error()
    fashion.prefetch()
    assert fashion.error() == error_without_prefetch


def test_load_raises_an_error_of_prefetch(fashion: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "find_files", None)
    fashion.prefetch()
    with pytest.raises(TypeError):
        fashion.loads()


def test_prefetch_thread_is_a_daemon(fashion: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the thread that must not keep the program from ending."""
    event = threading.Event()
    monkeypatch.setattr(download, "find_files", lambda *_: event.wait())
    before = set(threading.enumerate())
    fashion.prefetch()
    threads = set(threading.enumerate()) - before
    event.set()
    assert [thread.daemon for thread in threads] == [True]
