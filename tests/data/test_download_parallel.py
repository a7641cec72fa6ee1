"""Runs that want the same files at once: one downloads them, the others wait where folders can be locked."""

import errno
import fcntl
import io
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
from filelock import FileLock
from mirrors import PACKED, Mirror, Site

from cnnbench.data import download
from cnnbench.data.catalog import PublicDataset
from cnnbench.data.download import load

SPAWN = multiprocessing.get_context("spawn")
Start = Callable[..., SpawnProcess]


def load_from(url: str, dataset: PublicDataset, root: str, notes: Path) -> None:
    """As a run that soon says what it waits for, to the file `notes`."""
    from torchvision import datasets

    datasets.FashionMNIST.mirrors = [url]
    download.PATIENCE_S, download.TIMEOUT_S = 0.05, 600
    with notes.open("w", buffering=1) as sys.stderr:
        load(dataset, root)


def until(come_true: Callable[[], bool]) -> None:
    """Wait; the time limit of the test ends it otherwise."""
    while not come_true():
        time.sleep(0.01)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that calls a function; what still runs at the end is killed."""
    processes: list[SpawnProcess] = []

    def start(function: Callable[..., None], *arguments: object) -> SpawnProcess:
        process = SPAWN.Process(target=function, args=arguments)
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_processes_that_wait_for_one_that_is_killed_download_each_file_once(
    fashion: Site, mirror: Mirror, tmp_path: Path, start: Start
) -> None:
    mirror.delay_s = 600
    notes = [tmp_path / f"notes-{number}" for number in range(3)]
    arguments = (mirror.url, fashion.dataset, str(fashion.cache))
    holder = start(load_from, *arguments, notes[0])
    until(lambda: len(mirror.requests) == 1)
    others = [start(load_from, *arguments, note) for note in notes[1:]]
    until(lambda: all(note.exists() and note.read_text() for note in notes[1:]))
    mirror.delay_s = 0
    holder.kill()
    for process in others:
        process.join()
    codes = [process.exitcode for process in others]
    assert (codes, mirror.requests[1:]) == ([0] * 2, PACKED)


def test_a_run_that_waits_says_so_and_uses_what_the_other_downloaded(
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
            until(lambda: bool(said.getvalue()) or waiting.done())
            for name, content in mirror.files.items():
                (folder / name).write_bytes(content)
        assert waiting.result()
    assert said.getvalue() == f"cnnbench: waiting for another run, which is fetching Fashion-MNIST into {folder}\n"
    assert mirror.requests == []


def test_a_run_that_need_not_wait_says_nothing(
    fashion: Site, mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fashion.loads()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EIO], ids=errno.errorcode.get)
def test_where_a_folder_cannot_be_locked_files_are_downloaded_all_the_same(
    fashion: Site, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert fashion.loads()
    assert sorted(path.name for path in (fashion.cache / "fashion_mnist").glob("[!.]*")) == sorted(PACKED)


def test_where_locks_are_not_implemented_files_are_downloaded_all_the_same(
    fashion: Site, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lock: FileLock, timeout: float) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert fashion.loads()
