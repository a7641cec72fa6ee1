"""Files that are larger than they may be, and processes that want the same files at once."""

import dataclasses
import errno
import fcntl
import gzip
import io
import multiprocessing
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from filelock import FileLock
from installed import Command
from mirrors import ENDLESS, IMAGES, Answer, BoastfulAnswer, ByFile, EndlessAnswer, Mirror, put, same

from cnnbench.data import fetching
from cnnbench.data.catalog import FILES, Dataset, get
from cnnbench.data.storage import find, load
from cnnbench.errors import DataError

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")

SPAWN = multiprocessing.get_context("spawn")
Start = Callable[..., SpawnProcess]


# Too large

# What the made-up images may have: 496 bytes, compressed 4,596. The first two compress to less than that.
TOO_LARGE: dict[str, tuple[str, bytes]] = {
    "a bomb": (".gz", gzip.compress(bytes(4_000_000))),
    "a bomb of many members": (".gz", gzip.compress(bytes(200_000)) * 18),
    "a bomb of members that are empty": (".gz", gzip.compress(b"") * 200_000),
    "a large compressed file": (".gz", gzip.compress(bytes(4_000_000), compresslevel=0)),
    "a large plain file": ("", bytes(4_000_000)),
    "a plain file one byte too long": ("", bytes(497)),
    "a compressed file one byte too long": (".gz", gzip.compress(bytes(497))),
}


@pytest.fixture(params=TOO_LARGE.values(), ids=TOO_LARGE.keys())
def too_large(request: pytest.FixtureRequest, cache: Path) -> Path:
    """A file of images, in the cache, that is larger than it may be."""
    suffix, content = request.param
    path = cache / f"{IMAGES}{suffix}"
    cache.mkdir()
    path.write_bytes(content)
    return path


def test_a_file_is_told_to_be_too_large(fashion: Dataset, cache: Path, too_large: Path) -> None:
    tried: list[str] = []
    find(fashion, IMAGES, str(cache), tried)
    assert [line.startswith(f"{too_large}: larger than 4") for line in tried] == [True]


def test_memory_does_not_grow_with_a_file(fashion: Dataset, cache: Path, too_large: Path) -> None:
    tracemalloc.start()
    find(fashion, IMAGES, str(cache), [])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_good_file_elsewhere_stands_in(
    fashion: Dataset, arrays: ByFile, cache: Path, too_large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "good", arrays)
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "good"))
    assert same(load(fashion, str(cache)), arrays)


def test_a_file_that_gzip_made_no_smaller_is_used(cache: Path) -> None:
    sample = get("sample")
    content = gzip.decompress((sample.places[0] / f"{IMAGES}.gz").read_bytes())
    pieces = [content[start : start + 4096] for start in range(0, len(content), 4096)]
    cache.mkdir()
    (cache / f"{IMAGES}.gz").write_bytes(b"".join(gzip.compress(piece, 0) for piece in pieces))
    assert find(dataclasses.replace(sample, places=()), IMAGES, str(cache), [])[1] == content


@pytest.mark.parametrize("answer", [EndlessAnswer, BoastfulAnswer])
def test_a_mirror_is_told_to_send_too_much(online: Dataset, mirror: Mirror, cache: Path, answer: type[Answer]) -> None:
    mirror.RequestHandlerClass = answer
    with pytest.raises(DataError, match=f"{mirror.url}{IMAGES}.gz: larger than 4,596 bytes"):
        load(online, str(cache))


def test_a_mirror_that_sends_without_end_is_hung_up_on(online: Dataset, mirror: Mirror, cache: Path) -> None:
    mirror.RequestHandlerClass = EndlessAnswer
    with pytest.raises(DataError):
        load(online, str(cache))
    assert mirror.num_bytes_sent < ENDLESS


def test_a_run_with_a_bomb_ends_with_an_error_of_the_data(cnnbench: Command, tmp_path: Path) -> None:
    bomb = tmp_path / "mine" / f"{IMAGES}.gz"
    bomb.parent.mkdir()
    bomb.write_bytes(gzip.compress(bytes(1 << 24)) * 64)  # 1 MB for 1 GB
    done = cnnbench("data=mnist", "model=mlp", CNNBENCH_DATA=str(bomb.parent))
    told = f"{bomb}: larger than 47,040,016 bytes" in done.stderr
    assert (done.returncode, told, "Traceback" in done.stderr) == (3, True, False)


# At once


def prepare(barrier: Barrier, dataset: Dataset, root: str) -> None:
    barrier.wait()
    load(dataset, root)


def prepare_with_notes(dataset: Dataset, root: str, notes: Path) -> None:
    """As a run that says what it waits for to the file `notes`, and soon."""
    fetching.PATIENCE_S = 0.05
    with notes.open("w", buffering=1) as sys.stderr:
        load(dataset, root)


def until(come_true: Callable[[], bool]) -> None:
    """Wait; it is the time limit of the test that ends it otherwise."""
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


@pytest.mark.timeout(60)
def test_processes_that_fetch_at_once_end_well_with_one_download_of_each_file(
    online: Dataset, mirror: Mirror, cache: Path, start: Start
) -> None:
    mirror.delay_s = 0.1
    barrier = SPAWN.Barrier(4, timeout=60)
    processes = [start(prepare, barrier, online, str(cache)) for _ in range(4)]
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    assert (codes, mirror.requests) == ([0] * 4, [f"{name}.gz" for name in FILES])


@pytest.mark.timeout(60)
def test_processes_that_wait_for_one_that_is_killed_go_on(
    online: Dataset, mirror: Mirror, cache: Path, tmp_path: Path, start: Start
) -> None:
    mirror.delay_s = 600
    notes = [tmp_path / f"notes-{number}" for number in range(4)]
    holder = start(prepare_with_notes, online, str(cache), notes[0])
    until(lambda: len(mirror.requests) == 1)
    others = [start(prepare_with_notes, online, str(cache), note) for note in notes[1:]]
    until(lambda: all(note.exists() and note.read_text() for note in notes[1:]))
    mirror.delay_s = 0
    holder.kill()
    for process in others:
        process.join()
    codes = [process.exitcode for process in others]
    assert (codes, mirror.requests[1:]) == ([0] * 3, [f"{name}.gz" for name in FILES])


def test_a_run_that_waits_says_for_which_data_set_and_folder(
    online: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(fetching, "PATIENCE_S", 0.05)
    folder = cache / "fashion_mnist"
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with FileLock(folder / ".lock"):
            waiting = pool.submit(load, online, str(cache))
            until(lambda: bool(said.getvalue()) or waiting.done())
        waiting.result()
    assert said.getvalue() == f"cnnbench: waiting for another run, which is fetching Fashion-MNIST into {folder}\n"


def test_a_run_that_need_not_wait_says_nothing(
    online: Dataset, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(online, str(cache))
    assert capsys.readouterr().err == ""


# File systems that cannot lock


NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, errno.EIO}


@pytest.mark.parametrize("number", sorted(NO_LOCKS), ids=errno.errorcode.get)
def test_where_a_folder_cannot_be_locked_data_are_fetched_all_the_same(
    online: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    load(online, str(cache))
    assert sorted(path.name for path in (cache / "fashion_mnist").glob("[!.]*")) == sorted(
        f"{name}.gz" for name in FILES
    )


def test_where_locks_are_not_implemented_data_are_fetched_all_the_same(
    online: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lock: FileLock, timeout: float) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    load(online, str(cache))
    assert all((cache / "fashion_mnist" / f"{name}.gz").exists() for name in FILES)


def test_a_folder_that_may_not_be_locked_is_a_data_error(
    online: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(DataError, match=rf"{cache}.* lock it: .*{os.strerror(errno.ESTALE)}.*data\.root"):
        load(online, str(cache))
