"""Loading and downloading of small made-up data sets, from mirrors on 127.0.0.1."""

import errno
import fcntl
import gzip
import io
import os
import subprocess
import sys
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


def test_loading_local_files_imports_neither_torch_nor_torchvision() -> None:
    code = (
        "import sys; from cnnbench.data import catalog, download\n"
        "download.load_public_dataset(catalog.get('sample'))\n"
        "print({'torch', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n"


# Errors


def test_error_lists_missing_files_attempts_and_remedies(fashion: Site, mnist: Site) -> None:
    folder = fashion.cache / "fashion_mnist"
    write_files(folder, {FILES[1]: fashion.arrays[FILES[1]]})
    write_files(fashion.cache, {IMAGES: mnist.arrays[IMAGES]})
    assert fashion.error().splitlines() == [
        "Fashion-MNIST is not complete on this machine and could not be downloaded.",
        f"Missing: {IMAGES}, {FILES[2]}, {FILES[3]}",
        "Tried:",
        f"  {fashion.cache / IMAGES}.gz: holds MNIST's {IMAGES}, not Fashion-MNIST's {IMAGES}",
        f"  torchvision's FashionMNIST: Error downloading {PACKED[0]}: Tried {NOWHERE}, got: "
        f"<urlopen error [Errno {errno.ECONNREFUSED}] Connection refused>",
        "To fix this:",
        f"  put {PACKED[0]}, {PACKED[2]}, {PACKED[3]} into {folder}, "
        "or name their folder in CNNBENCH_DATA,",
        "  on Debian or Ubuntu: apt-get install dataset-fashion-mnist",
        "  or use data=sample, real images that are installed with cnnbench",
    ]


def test_files_put_into_the_folder_that_the_error_names_are_found(fashion: Site) -> None:
    advised = fashion.error().partition(" into ")[2].partition(",")[0]
    fashion.put(Path(advised))
    assert fashion.loads()


@pytest.mark.parametrize("is_full", [True, False])
def test_cache_that_cannot_be_written_to_is_not_reported_as_a_broken_mirror(
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
    error = fashion.error()
    assert error.startswith(f"Cannot write to the cache {fashion.cache / 'fashion_mnist'}: ")
    assert error.endswith("Name another folder with data.root=DIR.")
    assert attempts == (PACKED[:1] if is_full else [])


def test_unpublished_data_set_needs_no_cache(fashion: Site) -> None:
    fashion.cache.touch()
    fashion.dataset = replace(fashion.dataset, source="")
    assert fashion.error().startswith("Fashion-MNIST is not complete")


@pytest.mark.parametrize(
    "error", [ImportError("No module named 'torchvision'"), RuntimeError("no operator nms")]
)
def test_error_without_torchvision_names_the_package_to_install(
    fashion: Site, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "torchvision":
                raise error

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    message = f"  torchvision cannot be imported ({error}): pip install torchvision\n"
    assert message in fashion.error()


# Downloading


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [io.StringIO(), Terminal()], ids=["log file", "terminal"])
def test_download_shows_a_progress_bar_on_a_terminal_only(
    fashion: Site, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert fashion.loads()
    assert ("100%" in stderr.getvalue()) == stderr.isatty()
    assert stderr.isatty() or stderr.getvalue() == ""


def test_downloads_are_found_again_without_leftover_files(fashion: Site, mirror: Mirror) -> None:
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
@pytest.mark.parametrize(("break_mirror", "message"), BAD_MIRRORS.values(), ids=BAD_MIRRORS.keys())
def test_bad_mirror_is_reported_and_another_one_used(
    fashion: Site,
    mirror: Mirror,
    start_mirror: Callable[[Mapping[str, bytes]], Mirror],
    monkeypatch: pytest.MonkeyPatch,
    break_mirror: Callable[[Mirror], None],
    message: str,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    bad = start_mirror(make_packed_files(fashion.arrays))
    break_mirror(bad)
    fashion.mirrors(bad.url)
    lines = fashion.error().splitlines()
    (line,) = (line for line in lines if "torchvision's FashionMNIST: " in line)
    assert bad.url in line
    assert message in line
    assert [path.name for path in fashion.cache.rglob("*")] == ["fashion_mnist", ".lock"]
    fashion.mirrors(bad.url, mirror.url)
    assert fashion.loads()


def test_failed_download_is_tried_twice_before_giving_up(fashion: Site, mirror: Mirror) -> None:
    mirror.cut_short = 1
    mirror.files.pop(PACKED[1])
    assert f"Missing: {', '.join(FILES[1:])}\n" in fashion.error()
    assert mirror.requests == [PACKED[0]] * 2


def test_leftover_files_of_a_killed_download_are_ignored(fashion: Site, mirror: Mirror) -> None:
    leftover = fashion.cache / "fashion_mnist" / ".part-left"
    leftover.mkdir(parents=True)
    for name in PACKED:
        (leftover / name).write_bytes(b"half")
    assert fashion.loads()


@pytest.mark.usefixtures("mirror")
def test_interrupted_download_leaves_no_files(
    fashion: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(url: str, path: str) -> None:
        Path(path).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fashion.loads()
    assert [path.name for path in fashion.cache.rglob("*")] == ["fashion_mnist", ".lock"]


def test_damaged_file_is_renamed_in_the_cache_and_untouched_elsewhere(
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
    renamed = places[0].with_name(f"{PACKED[0]}.damaged")
    assert [place.read_bytes() for place in (renamed, places[1])] == [b"wrong"] * 2


@pytest.mark.parametrize("name", [name for name in CATALOG if CATALOG[name].source])
def test_each_public_data_set_is_downloaded_once(
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
        _, arrays = download.load_public_dataset(dataset, str(tmp_path))
        for array, expected in zip(arrays, make_images(name), strict=True):
            assert np.array_equal(array, expected)
        cache.clear()
    is_archive = bool(dataset.archives)
    assert mirror.requests == (list(files)[:1] if is_archive else list(files))


# Several runs at once


def test_run_reports_waiting_for_another_and_uses_its_files(
    fashion: Site, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(download, "LOCK_NOTICE_S", 0.05)
    folder = fashion.cache / "fashion_mnist"
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with FileLock(folder / ".lock"):
            waiting = pool.submit(fashion.loads)
            while not (stderr.getvalue() or waiting.done()):
                time.sleep(0.01)
            fashion.put(folder)
        assert waiting.result()
    assert stderr.getvalue() == (
        f"cnnbench: waiting for another run to download Fashion-MNIST into {folder}\n"
    )
    assert mirror.requests == []


@pytest.mark.parametrize(
    "error",
    [*map(OSError, (errno.ENOLCK, errno.ENOSYS), ("", "")), NotImplementedError()],
    ids=repr,
)
def test_files_are_downloaded_to_a_folder_that_cannot_be_locked(
    fashion: Site, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise error

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert fashion.loads()
    assert mirror.requests == PACKED


def test_load_local_downloads_nothing(fashion: Site, mirror: Mirror, tmp_path: Path) -> None:
    assert (load_local(fashion.dataset), mirror.requests) == (None, [])
    fashion.put(tmp_path)
    fashion.look_into(tmp_path)
    local = load_local(fashion.dataset)
    assert local is not None
    assert local.test_labels.tolist() == fashion.arrays[FILES[3]].tolist()
