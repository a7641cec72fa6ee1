"""Loading and downloading small made-up data sets, from mirrors on 127.0.0.1."""

import errno
import fcntl
import gzip
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision
from filelock import FileLock
from helpers.data_mirrors import (
    IMAGES,
    NOWHERE,
    PACKED,
    Mirror,
    Site,
    make_packed_files,
    patch_torchvision,
    write_files,
)
from helpers.public_datasets import make_images, make_published

from cnnbench.data import cache, download
from cnnbench.data.catalog import CATALOG, FILES
from cnnbench.data.download import load_local

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")


def test_reading_what_is_there_imports_neither_torch_nor_torchvision() -> None:
    code = (
        "import sys; from cnnbench.data import catalog, download\n"
        "download.load(catalog.get('sample')); print({'torch', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n"


# Nothing to be had


def test_the_error_names_what_is_missing_what_was_tried_and_how_to_go_on(
    fashion: Site, mnist: Site
) -> None:
    folder = fashion.cache / "fashion_mnist"
    write_files(folder, {FILES[1]: fashion.arrays[FILES[1]]})
    write_files(fashion.cache, {IMAGES: mnist.arrays[IMAGES]})
    assert fashion.error().splitlines() == [
        "Fashion-MNIST is not complete on this machine and could not be fetched.",
        f"Missing: {IMAGES}, {FILES[2]}, {FILES[3]}",
        "What was tried:",
        f"  {fashion.cache / IMAGES}.gz: holds MNIST's {IMAGES}, not Fashion-MNIST's {IMAGES}",
        f"  torchvision's FashionMNIST: Error downloading {PACKED[0]}: Tried {NOWHERE}, got: "
        f"<urlopen error [Errno {errno.ECONNREFUSED}] Connection refused>",
        "How to go on:",
        f"  put {PACKED[0]}, {PACKED[2]}, {PACKED[3]} into {folder}, or name their folder in CNNBENCH_DATA,",
        "  on Debian or Ubuntu: apt-get install dataset-fashion-mnist",
        "  or use data=sample, real images that are installed with cnnbench",
    ]


def test_files_put_where_the_error_says_are_found(fashion: Site) -> None:
    advised = fashion.error().partition(" into ")[2].partition(",")[0]
    fashion.put(Path(advised))
    assert fashion.loads()


@pytest.mark.parametrize("is_full", [True, False])
def test_a_cache_that_cannot_be_written_to_is_not_taken_for_a_broken_mirror(
    fashion: Site, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    def fail(url: str, path: str) -> None:
        attempts.append(url.rpartition("/")[2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    attempts: list[str] = []
    if is_full:
        monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", fail)
    else:
        fashion.cache.touch()
    told = fashion.error()
    assert told.startswith(f"Cannot write to the cache {fashion.cache / 'fashion_mnist'}: ")
    assert told.endswith("Name another folder with data.root=DIR.")
    assert attempts == (PACKED[:1] if is_full else [])


def test_a_data_set_that_is_not_published_needs_no_cache(fashion: Site) -> None:
    fashion.cache.touch()
    fashion.dataset = replace(fashion.dataset, source="")
    assert fashion.error().startswith("Fashion-MNIST is not complete")


@pytest.mark.parametrize(
    "error", [ImportError("No module named 'torchvision'"), RuntimeError("no operator nms")]
)
def test_without_a_working_torchvision_the_error_says_what_to_install(
    fashion: Site, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "torchvision":
                raise error

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert (
        f"  torchvision cannot be imported ({error}): pip install torchvision\n" in fashion.error()
    )


# Downloading


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [io.StringIO(), Terminal()], ids=["log file", "terminal"])
def test_missing_files_are_downloaded_with_a_bar_on_a_terminal(
    fashion: Site, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert fashion.loads()
    assert ("100%" in stderr.getvalue()) == stderr.isatty()
    assert stderr.isatty() or stderr.getvalue() == ""


def test_downloads_are_found_by_the_next_process_and_nothing_else_is_left(
    fashion: Site, mirror: Mirror
) -> None:
    for _ in range(2):
        assert fashion.loads()
        cache.clear()
    assert mirror.requests == PACKED
    assert {path.name for path in (fashion.cache / "fashion_mnist").iterdir()} == {*PACKED, ".lock"}


def serve(content: bytes) -> Callable[[Mirror], None]:
    return lambda mirror: mirror.files.update(dict.fromkeys(mirror.files, content))


BAD_MIRRORS: dict[str, tuple[Callable[[Mirror], None], str]] = {
    "has no such file": (lambda mirror: mirror.files.clear(), "Not Found"),
    "has other files": (serve(gzip.compress(b"other")), "corrupted"),
    "sends a page": (serve(b"<html>"), "corrupted"),
    "never ends": (lambda mirror: setattr(mirror, "fault", "endless"), "File too large"),
    "ends too soon": (lambda mirror: setattr(mirror, "cut_short", 1000), "corrupted"),
    "speaks no HTTP": (lambda mirror: setattr(mirror, "fault", "no HTTP"), "hello"),
    "is silent": (lambda mirror: setattr(mirror, "fault", "silent"), "timed out"),
    "refuses connections": (lambda mirror: setattr(mirror, "url", NOWHERE), "Connection refused"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("worsen", "told"), BAD_MIRRORS.values(), ids=BAD_MIRRORS.keys())
def test_a_mirror_is_reported_and_another_stands_in_if_it(
    fashion: Site,
    mirror: Mirror,
    start_mirror: Callable[[Mapping[str, bytes]], Mirror],
    monkeypatch: pytest.MonkeyPatch,
    worsen: Callable[[Mirror], None],
    told: str,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    bad = start_mirror(make_packed_files(fashion.arrays))
    worsen(bad)
    fashion.mirrors(bad.url)
    (line,) = (
        line for line in fashion.error().splitlines() if "torchvision's FashionMNIST: " in line
    )
    assert bad.url in line
    assert told in line
    assert [path.name for path in fashion.cache.rglob("*")] == ["fashion_mnist", ".lock"]
    fashion.mirrors(bad.url, mirror.url)
    assert fashion.loads()


def test_each_mirror_is_asked_twice_and_the_next_file_not_at_all(
    fashion: Site, mirror: Mirror
) -> None:
    mirror.cut_short = 1
    mirror.files.pop(PACKED[1])
    assert f"Missing: {', '.join(FILES[1:])}\n" in fashion.error()
    assert mirror.requests == [PACKED[0]] * 2


def test_what_a_killed_run_left_does_not_matter(fashion: Site, mirror: Mirror) -> None:
    left = fashion.cache / "fashion_mnist" / ".part-left"
    left.mkdir(parents=True)
    for name in PACKED:
        (left / name).write_bytes(b"half")
    assert fashion.loads()


@pytest.mark.usefixtures("mirror")
def test_an_interrupted_download_leaves_nothing(
    fashion: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(url: str, path: str) -> None:
        Path(path).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fashion.loads()
    assert [path.name for path in fashion.cache.rglob("*")] == ["fashion_mnist", ".lock"]


def test_a_wrong_file_is_kept_beside_a_better_one_in_the_cache_and_untouched_elsewhere(
    fashion: Site, mirror: Mirror, tmp_path: Path
) -> None:
    places = [folder / "fashion_mnist" / PACKED[0] for folder in (fashion.cache, tmp_path / "data")]
    fashion.look_into(tmp_path / "data")
    for place in places:
        place.parent.mkdir(parents=True)
        place.write_bytes(b"wrong")
    files, mirror.files = mirror.files, {}
    fashion.error()
    assert [place.read_bytes() for place in places] == [b"wrong"] * 2
    mirror.files = files
    assert fashion.loads()
    kept = places[0].with_name(f"{PACKED[0]}.damaged")
    assert [place.read_bytes() for place in (kept, places[1])] == [b"wrong"] * 2


@pytest.mark.parametrize("name", [name for name in CATALOG if CATALOG[name].source])
def test_every_data_set_is_downloaded_once(
    name: str,
    start_mirror: Callable[[Mapping[str, bytes]], Mirror],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset, files = make_published(name)
    if name in ("mnist", "fashion_mnist"):
        files = {f"{file}.gz": gzip.compress(content) for file, content in files.items()}
    mirror = start_mirror(files)
    patch_torchvision(name, files, mirror.url, monkeypatch)
    for _ in range(2):
        _, arrays = download.load(dataset, str(tmp_path))
        assert all(
            np.array_equal(ours, theirs)
            for ours, theirs in zip(arrays, make_images(name), strict=True)
        )
        cache.clear()
    is_archive = bool(dataset.archives)
    assert mirror.requests == (list(files)[:1] if is_archive else list(files))


# Several runs at once


def test_a_run_that_waits_for_another_says_so_and_uses_what_that_downloaded(
    fashion: Site, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(download, "PATIENCE_S", 0.05)
    folder = fashion.cache / "fashion_mnist"
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with FileLock(folder / ".lock"):
            waiting = pool.submit(fashion.loads)
            while not (said.getvalue() or waiting.done()):
                time.sleep(0.01)
            fashion.put(folder)
        assert waiting.result()
    assert said.getvalue() == (
        f"cnnbench: waiting for another run, which is fetching Fashion-MNIST into {folder}\n"
    )
    assert mirror.requests == []


@pytest.mark.parametrize(
    "error",
    [*map(OSError, (errno.ENOLCK, errno.ENOSYS), ("", "")), NotImplementedError()],
    ids=repr,
)
def test_where_a_folder_cannot_be_locked_files_are_downloaded_all_the_same(
    fashion: Site, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise error

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert fashion.loads()
    assert mirror.requests == PACKED


# Reading ahead


def test_what_was_prefetched_is_loaded_once(fashion: Site) -> None:
    fashion.put(fashion.cache)
    fashion.prefetch()
    for future in download._prefetched.values():
        future.result()
    shutil.rmtree(fashion.cache)
    assert fashion.loads()
    cache.clear()
    fashion.error()


def test_what_was_prefetched_elsewhere_is_not_loaded(fashion: Site, tmp_path: Path) -> None:
    fashion.put(fashion.cache)
    fashion.prefetch()
    fashion.cache = tmp_path / "elsewhere"
    fashion.error()


def test_what_is_wrong_with_prefetched_files_is_reported_by_load(fashion: Site) -> None:
    fashion.put(fashion.cache)
    (fashion.cache / PACKED[0]).write_bytes(b"not gzipped")
    without = fashion.error()
    fashion.prefetch()
    assert fashion.error() == without


def test_an_error_while_prefetching_is_raised_by_load(
    fashion: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "find_files", None)
    fashion.prefetch()
    with pytest.raises(TypeError):
        fashion.loads()


def test_the_end_of_the_program_does_not_wait_for_what_is_prefetched(
    fashion: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(download, "find_files", lambda *_: go_on.wait())
    before = set(threading.enumerate())
    fashion.prefetch()
    threads = set(threading.enumerate()) - before
    go_on.set()
    assert [thread.daemon for thread in threads] == [True]


def test_load_local_downloads_nothing(fashion: Site, mirror: Mirror, tmp_path: Path) -> None:
    assert (load_local(fashion.dataset), mirror.requests) == (None, [])
    fashion.put(tmp_path)
    fashion.look_into(tmp_path)
    local = load_local(fashion.dataset)
    assert local is not None
    assert local.test_labels.tolist() == fashion.arrays[FILES[3]].tolist()
