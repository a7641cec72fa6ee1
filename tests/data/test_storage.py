"""Finding, verifying and fetching files, with small made-up data sets and mirrors on 127.0.0.1."""

import dataclasses
import gzip
import io
import os
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path

import numpy as np
import pytest
from mirrors import (
    IMAGES,
    NOWHERE,
    ByFile,
    ChunkedAnswer,
    Contents,
    EndlessAnswer,
    Mirror,
    RudeAnswer,
    SilentAnswer,
    UncountableAnswer,
    made_up,
    put,
    same,
)

from cnnbench.data import fetching, storage
from cnnbench.data.catalog import CATALOG, FILES, Dataset
from cnnbench.data.storage import cache_folder, find, load, locate, read_ahead
from cnnbench.errors import DataError

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")


# Finding


@pytest.mark.parametrize("packed", [True, False], ids=["gzipped", "plain"])
@pytest.mark.parametrize("inside", ["", "fashion_mnist", "fashion-mnist", "FashionMNIST/raw"])
def test_files_are_found_in_a_named_folder(
    fashion: Dataset,
    arrays: ByFile,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inside: str,
    packed: bool,
) -> None:
    put(tmp_path / "data" / inside, arrays, packed)
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    assert same(load(fashion, str(cache)), arrays)


@pytest.mark.parametrize("inside", ["", "mnist", "MNIST/raw"])
def test_two_data_sets_lie_beside_each_other(
    fashion: Dataset, mnist: Dataset, arrays: ByFile, digit_arrays: ByFile, cache: Path, inside: str
) -> None:
    put(cache / "FashionMNIST/raw", arrays)
    put(cache / inside, digit_arrays)
    assert (same(load(fashion, str(cache)), arrays), same(load(mnist, str(cache)), digit_arrays)) == (True, True)


def test_files_are_found_in_the_cache(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache / "fashion_mnist", arrays)
    assert same(load(fashion, str(cache)), arrays)


def test_files_are_found_in_a_system_folder(fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path) -> None:
    put(tmp_path / "system", arrays)
    dataset = dataclasses.replace(fashion, places=(tmp_path / "system",))
    assert same(load(dataset, str(cache)), arrays)


def test_files_may_be_spread_over_several_folders(
    fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FILES:
        put(tmp_path / name, {name: arrays[name]})
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep.join(str(tmp_path / name) for name in FILES))
    assert same(load(fashion, str(cache)), arrays)


def test_folders_are_looked_at_in_order_the_cache_first(
    fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = [cache, tmp_path / "first", tmp_path / "second", tmp_path / "system"]
    for folder in in_order:
        put(folder, arrays)
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep.join(map(str, in_order[1:3])))
    dataset = dataclasses.replace(fashion, places=(in_order[3],))
    found = []
    for folder in in_order:
        path, _ = find(dataset, IMAGES, str(cache), [])
        found.append(path)
        (folder / f"{IMAGES}.gz").unlink()
    assert found == [folder / f"{IMAGES}.gz" for folder in in_order]


def test_empty_parts_of_the_variable_do_not_mean_the_working_folder(
    fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "here", arrays)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep)
    assert find(fashion, IMAGES, str(cache), []) == (None, None)


def test_a_tilde_in_the_variable_is_the_home_folder(
    fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "home" / "data", arrays)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CNNBENCH_DATA", "~/data")
    assert same(load(fashion, str(cache)), arrays)


def test_a_folder_that_cannot_be_looked_at_is_passed_over(
    fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "good", arrays)
    too_long = "x" * 5000
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep.join([too_long, str(tmp_path / "good")]))
    assert same(load(fashion, str(cache)), arrays)


def test_cache_is_the_users_own_unless_a_root_is_given(tmp_path: Path) -> None:
    assert (cache_folder(None), cache_folder("/given")) == (tmp_path / "user-cache" / "cnnbench", Path("/given"))


def test_files_are_located_without_reading_all(
    fashion: Dataset, arrays: ByFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "data", arrays)
    (tmp_path / "data" / f"{IMAGES}.gz").write_bytes(b"not looked at")
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    assert locate(fashion) == tmp_path / "data"


def test_files_of_another_data_set_and_of_a_part_are_not_located(
    fashion: Dataset,
    arrays: ByFile,
    digit_arrays: ByFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(tmp_path / "digits", digit_arrays)
    put(tmp_path / "part", arrays)
    (tmp_path / "part" / f"{IMAGES}.gz").unlink()
    monkeypatch.setenv("CNNBENCH_DATA", f"{tmp_path / 'digits'}{os.pathsep}{tmp_path / 'part'}")
    assert locate(fashion) is None


def test_archives_are_located_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = CATALOG["cifar10"]
    name, size = next(iter(dataset.archives.items()))
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path))
    (tmp_path / name).write_bytes(b"a part of it")
    assert locate(dataset) is None
    os.truncate(tmp_path / name, size)
    assert locate(dataset) == tmp_path


# Verifying


def flip_a_bit(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda packed: b"",
    "ends in the header": lambda packed: packed[:5],
    "ends in the middle": lambda packed: packed[: len(packed) // 2],
    "lacks its last byte": lambda packed: packed[:-1],
    "one bit flipped": flip_a_bit,
    "nonsense after the header": lambda packed: packed[:10] + b"\xff" * len(packed[10:]),
    "not gzip": lambda packed: b"<html>" + packed,
    "other content": lambda packed: gzip.compress(b"something else"),
}
damages = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())


@damages
def test_a_damaged_file_is_reported_as_such(
    fashion: Dataset, arrays: ByFile, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    put(cache, arrays)
    path = cache / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    tried: list[str] = []
    find(fashion, IMAGES, str(cache), tried)
    assert [line.startswith(f"{path}: damaged or truncated") for line in tried] == [True]


@damages
def test_a_damaged_file_is_not_used(
    fashion: Dataset, arrays: ByFile, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    put(cache, arrays)
    path = cache / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    assert find(fashion, IMAGES, str(cache), []) == (None, None)


def test_a_truncated_plain_file_is_not_used(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays, packed=False)
    (cache / IMAGES).write_bytes((cache / IMAGES).read_bytes()[:-1])
    assert find(fashion, IMAGES, str(cache), []) == (None, None)


def test_a_damaged_file_is_skipped_in_favour_of_a_later_one(
    fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "bad", {IMAGES: np.zeros((1, 1, 1), np.uint8)})
    put(tmp_path / "good", arrays)
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep.join(str(tmp_path / name) for name in ("bad", "good")))
    assert same(load(fashion, str(cache)), arrays)


def test_a_plain_file_does_not_hide_a_gzipped_one_that_is_right(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays)
    (cache / IMAGES).write_bytes(b"something else")
    assert same(load(fashion, str(cache)), arrays)


def test_a_wrong_file_outside_the_cache_is_left_as_it_is(
    online: Dataset, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "data" / "fashion_mnist" / f"{IMAGES}.gz"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"something else")
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    load(online, str(cache))
    assert wrong.read_bytes() == b"something else"


def test_mnist_in_place_of_fashion_mnist_is_recognised(
    fashion: Dataset, mnist: Dataset, digit_arrays: ByFile, cache: Path
) -> None:
    put(cache, digit_arrays)
    tried: list[str] = []
    find(fashion, IMAGES, str(cache), tried)
    assert tried == [f"{cache / IMAGES}.gz: holds MNIST's {IMAGES}, not Fashion-MNIST's {IMAGES}"]


def test_a_file_under_the_name_of_another_is_recognised(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, {IMAGES: arrays[FILES[2]]})
    tried: list[str] = []
    find(fashion, IMAGES, str(cache), tried)
    assert tried == [f"{cache / IMAGES}.gz: holds Fashion-MNIST's {FILES[2]}, not Fashion-MNIST's {IMAGES}"]


def test_a_file_that_may_not_be_read_is_passed_over(
    fashion: Dataset, arrays: ByFile, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    put(cache, arrays)
    monkeypatch.setattr(Path, "open", refuse)
    tried: list[str] = []
    find(fashion, IMAGES, str(cache), tried)
    assert tried == [f"{cache / IMAGES}.gz: cannot be read (Permission denied)"]


# Nothing to be had


def test_every_missing_file_is_named(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, {IMAGES: arrays[IMAGES]})
    with pytest.raises(DataError, match=f"Missing: {', '.join(FILES[1:])}\n"):
        load(fashion, str(cache))


def test_every_mirror_tried_is_named(fashion: Dataset, cache: Path) -> None:
    dataset = dataclasses.replace(fashion, mirrors=(f"{NOWHERE}one/", f"{NOWHERE}two/"))
    with pytest.raises(
        DataError, match=f"{NOWHERE}one/{IMAGES}.gz: .*refused.*\n.*{NOWHERE}two/{IMAGES}.gz: .*refused"
    ):
        load(dataset, str(cache))


def test_every_file_passed_over_is_named(fashion: Dataset, mnist: Dataset, digit_arrays: ByFile, cache: Path) -> None:
    put(cache, digit_arrays)
    with pytest.raises(DataError) as caught:
        load(fashion, str(cache))
    assert all(f"{cache / name}.gz: holds MNIST's {name}" in str(caught.value) for name in FILES)


@pytest.mark.parametrize("way", ["{cache}/fashion_mnist", "CNNBENCH_DATA", "dataset-fashion-mnist", "data=sample"])
def test_ways_to_go_on_are_named(fashion: Dataset, cache: Path, way: str) -> None:
    with pytest.raises(DataError) as caught:
        load(fashion, str(cache))
    assert way.format(cache=cache) in str(caught.value).partition("How to go on:")[2]


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "sample"])
def test_files_put_where_the_error_says_are_found(arrays: ByFile, cache: Path, name: str) -> None:
    dataset = dataclasses.replace(made_up(name, arrays), mirrors=())
    with pytest.raises(DataError) as caught:
        load(dataset, str(cache))
    advised = str(caught.value).partition("files into ")[2].partition(",")[0]
    put(Path(advised), arrays)
    assert same(load(dataset, str(cache)), arrays)


def test_a_data_set_without_mirrors_needs_no_cache(fashion: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="Fashion-MNIST is not complete on this machine"):
        load(dataclasses.replace(fashion, mirrors=()), str(tmp_path / "file"))


def test_a_cache_that_cannot_be_written_to_is_a_data_error(online: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"Cannot write to the cache .*data\.root"):
        load(online, str(tmp_path / "file"))


# Fetching


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [io.StringIO, Terminal], ids=["log file", "terminal"])
def test_missing_files_are_fetched(
    online: Dataset, arrays: ByFile, cache: Path, monkeypatch: pytest.MonkeyPatch, stderr: type[io.StringIO]
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr())
    assert same(load(online, str(cache)), arrays)


def test_fetched_files_are_kept(online: Dataset, mirror: Mirror, arrays: ByFile, cache: Path) -> None:
    load(online, str(cache))
    assert same(load(dataclasses.replace(online, mirrors=()), str(cache)), arrays)


def test_each_file_is_fetched_once(online: Dataset, mirror: Mirror, cache: Path) -> None:
    load(online, str(cache))
    assert mirror.requests == [f"{name}.gz" for name in FILES]


def test_only_missing_files_are_fetched(online: Dataset, mirror: Mirror, arrays: ByFile, cache: Path) -> None:
    put(cache, {name: arrays[name] for name in FILES[1:]})
    load(online, str(cache))
    assert mirror.requests == [f"{IMAGES}.gz"]


def test_an_answer_that_names_no_length_is_taken(online: Dataset, mirror: Mirror, arrays: ByFile, cache: Path) -> None:
    mirror.names_length = False
    assert same(load(online, str(cache)), arrays)


BAD_MIRRORS: dict[str, Callable[[Mirror], None]] = {
    "has no such file": lambda mirror: mirror.files.clear(),
    "has other files": lambda mirror: mirror.files.update(dict.fromkeys(mirror.files, gzip.compress(b"other"))),
    "sends no gzip": lambda mirror: mirror.files.update(dict.fromkeys(mirror.files, b"<html>")),
    "ends too soon": lambda mirror: setattr(mirror, "cut_short", 1000),
    "ends within a chunk": lambda mirror: setattr(mirror, "RequestHandlerClass", ChunkedAnswer),
    "speaks no HTTP": lambda mirror: setattr(mirror, "RequestHandlerClass", RudeAnswer),
    "announces no number": lambda mirror: setattr(mirror, "RequestHandlerClass", UncountableAnswer),
    "sends without end": lambda mirror: setattr(mirror, "RequestHandlerClass", EndlessAnswer),
    "is silent": lambda mirror: setattr(mirror, "RequestHandlerClass", SilentAnswer),
    "refuses connections": lambda mirror: setattr(mirror, "url", NOWHERE),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("worsen", BAD_MIRRORS.values(), ids=BAD_MIRRORS.keys())
def test_a_good_mirror_stands_in_for_one_that(
    online: Dataset,
    arrays: ByFile,
    start_mirror: Callable[[ByFile], Mirror],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    worsen: Callable[[Mirror], None],
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", 1)
    bad = start_mirror(arrays)
    worsen(bad)
    assert same(load(dataclasses.replace(online, mirrors=(bad.url, *online.mirrors)), str(cache)), arrays)


def test_an_answer_that_ends_too_soon_is_asked_for_again(
    online: Dataset, mirror: Mirror, arrays: ByFile, cache: Path
) -> None:
    mirror.cut_short = 1
    assert same(load(online, str(cache)), arrays)


def test_answers_that_always_end_too_soon_are_reported(online: Dataset, mirror: Mirror, cache: Path) -> None:
    mirror.cut_short = 1000
    size = len(mirror.files[f"{IMAGES}.gz"])
    with pytest.raises(DataError, match=f"{IMAGES}.gz: the connection ended after {size // 2} of {size} bytes"):
        load(online, str(cache))


def test_a_broken_connection_is_not_taken_for_an_unwritable_cache(
    online: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(answer: HTTPResponse, amount: int) -> bytes:
        raise OSError(113, "No route to host")

    monkeypatch.setattr(HTTPResponse, "read", break_off)
    with pytest.raises(DataError, match=f"{IMAGES}.gz: .*No route to host"):
        load(online, str(cache))


def test_mnist_from_a_mirror_of_fashion_mnist_is_recognised(
    fashion: Dataset,
    mnist: Dataset,
    digit_arrays: ByFile,
    start_mirror: Callable[[ByFile], Mirror],
    cache: Path,
) -> None:
    wrong = dataclasses.replace(fashion, mirrors=(start_mirror(digit_arrays).url,))
    with pytest.raises(DataError, match=f"{wrong.mirrors[0]}{IMAGES}.gz: holds MNIST's {IMAGES}"):
        load(wrong, str(cache))


def test_a_damaged_file_of_the_cache_is_fetched_anew(online: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache / "fashion_mnist", arrays)
    (cache / "fashion_mnist" / f"{IMAGES}.gz").write_bytes(b"damaged")
    assert same(load(online, str(cache)), arrays)


def test_a_damaged_file_of_the_cache_is_kept_beside_the_new_one(online: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache / "fashion_mnist", arrays)
    (cache / "fashion_mnist" / f"{IMAGES}.gz").write_bytes(b"damaged")
    load(online, str(cache))
    assert (cache / "fashion_mnist" / f"{IMAGES}.gz.damaged").read_bytes() == b"damaged"


def test_a_damaged_file_of_the_cache_stays_if_there_is_none_better(fashion: Dataset, cache: Path) -> None:
    damaged = cache / "fashion_mnist" / f"{IMAGES}.gz"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    with pytest.raises(DataError):
        load(fashion, str(cache))
    assert damaged.read_bytes() == b"damaged"


@pytest.mark.parametrize("fault", ["has other files", "ends too soon"])
def test_nothing_is_left_of_a_fetch_from_a_mirror_that(
    online: Dataset, mirror: Mirror, cache: Path, fault: str
) -> None:
    BAD_MIRRORS[fault](mirror)
    with pytest.raises(DataError):
        load(online, str(cache))
    assert list(cache.rglob(f"*{IMAGES}*")) == []


def test_a_fetch_leaves_the_four_files_alone(online: Dataset, cache: Path) -> None:
    load(online, str(cache))
    names = {path.name for path in cache.rglob("*ubyte*")}
    assert names == {f"{name}.gz" for name in FILES}


def test_what_a_killed_run_left_is_not_added_to(online: Dataset, mirror: Mirror, arrays: ByFile, cache: Path) -> None:
    read = HTTPResponse.read

    def die(answer: HTTPResponse, amount: int) -> bytes:
        if killed:
            raise KeyboardInterrupt
        killed.append(True)
        return read(answer, 20)

    killed: list[bool] = []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPResponse, "read", die)
        with pytest.raises(KeyboardInterrupt):
            load(online, str(cache))
    assert same(load(online, str(cache)), arrays)


def test_threads_that_fetch_at_once_download_each_file_once(
    online: Dataset, mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 4
    barrier, fetch = threading.Barrier(count, timeout=30), storage.fetch

    def fetch_together(dataset: Dataset, missing: list[str], cache: Path, tried: list[str]) -> Contents:
        barrier.wait()  # until all have seen that the files are missing
        return fetch(dataset, missing, cache, tried)

    monkeypatch.setattr(storage, "fetch", fetch_together)
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: load(online, str(cache)), range(count)))
    assert sorted(mirror.requests) == sorted(f"{name}.gz" for name in FILES)


# Reading ahead


def test_what_was_read_ahead_is_loaded(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays)
    read_ahead(fashion, str(cache))
    reading_is_done()
    shutil.rmtree(cache)
    assert same(load(fashion, str(cache)), arrays)


def test_what_was_read_ahead_is_loaded_once(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays)
    read_ahead(fashion, str(cache))
    load(fashion, str(cache))
    shutil.rmtree(cache)
    with pytest.raises(DataError):
        load(fashion, str(cache))


def test_what_was_read_ahead_elsewhere_is_not_loaded(
    fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path
) -> None:
    put(cache, arrays)
    read_ahead(fashion, str(cache))
    with pytest.raises(DataError):
        load(fashion, str(tmp_path / "elsewhere"))


def test_what_is_wrong_with_files_read_ahead_is_told_by_load(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays)
    (cache / f"{IMAGES}.gz").write_bytes(b"not gzipped")
    with pytest.raises(DataError) as told:
        load(fashion, str(cache))
    read_ahead(fashion, str(cache))
    with pytest.raises(DataError) as told_later:
        load(fashion, str(cache))
    assert str(told_later.value) == str(told.value)


def test_an_error_while_reading_ahead_is_raised_by_load(fashion: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(storage, "find", fail)
    read_ahead(fashion)
    with pytest.raises(MemoryError):
        load(fashion)


def reading_is_done() -> None:
    for future in storage._ahead.values():
        future.result()
