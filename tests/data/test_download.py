"""Finding, verifying and downloading files, with small made-up data sets and mirrors on 127.0.0.1."""

import dataclasses
import errno
import gzip
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from mirrors import IMAGES, NOWHERE, PACKED, ByFile, Mirror, made_up, packed_files, put, same

from cnnbench.data import download
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import CATALOG, FILES, PublicDataset, get
from cnnbench.data.download import cache_folder, find_files, find_folder, load, load_local, prefetch
from cnnbench.errors import DataError

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")


def load_arrays(dataset: PublicDataset, root: Path) -> Arrays:
    return load(dataset, str(root))[1]


def message(dataset: PublicDataset, root: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(dataset, str(root))
    return str(caught.value)


# Finding


@pytest.mark.parametrize("packed", [True, False], ids=["gzipped", "plain"])
@pytest.mark.parametrize("inside", ["", "fashion_mnist", "fashion-mnist", "FashionMNIST/raw"])
def test_files_are_found_in_a_named_folder(
    fashion: PublicDataset,
    arrays: ByFile,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inside: str,
    packed: bool,
) -> None:
    put(tmp_path / "data" / inside, arrays, packed)
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    assert same(load_arrays(fashion, cache), arrays)


@pytest.mark.parametrize("inside", ["", "mnist", "MNIST/raw"])
def test_two_data_sets_lie_beside_each_other(
    fashion: PublicDataset, mnist: PublicDataset, arrays: ByFile, digit_arrays: ByFile, cache: Path, inside: str
) -> None:
    put(cache / "FashionMNIST/raw", arrays)
    put(cache / inside, digit_arrays)
    assert same(load_arrays(fashion, cache), arrays)
    assert same(load_arrays(mnist, cache), digit_arrays)


def test_files_may_be_spread_over_several_folders(
    fashion: PublicDataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FILES:
        put(tmp_path / name, {name: arrays[name]})
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep.join(str(tmp_path / name) for name in FILES))
    assert same(load_arrays(fashion, cache), arrays)


def test_folders_are_looked_at_in_order_the_cache_first_the_systems_last(
    fashion: PublicDataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = [cache, tmp_path / "first", tmp_path / "second", tmp_path / "system"]
    for folder in in_order:
        put(folder, arrays)
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep.join(map(str, in_order[1:3])))
    dataset = dataclasses.replace(fashion, system_folders=(in_order[3],))
    found = []
    for folder in in_order:
        found.append(find_files(dataset, str(cache)).paths[IMAGES])
        (folder / f"{IMAGES}.gz").unlink()
    assert found == [folder / f"{IMAGES}.gz" for folder in in_order]


def test_empty_parts_of_the_variable_do_not_mean_the_working_folder(
    fashion: PublicDataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "here", arrays)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep)
    assert find_files(fashion, str(cache)).missing == list(FILES)


def test_a_tilde_in_the_variable_is_the_home_folder(
    fashion: PublicDataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "home" / "data", arrays)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CNNBENCH_DATA", "~/data")
    assert same(load_arrays(fashion, cache), arrays)


def test_a_folder_that_cannot_be_looked_at_is_passed_over(
    fashion: PublicDataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "good", arrays)
    too_long = "x" * 5000
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep.join([too_long, str(tmp_path / "good")]))
    found = find_files(fashion, str(cache))
    assert (found.missing, found.tried[0].endswith("cannot be read (File name too long)")) == ([], True)
    assert find_folder(fashion) == tmp_path / "good"


def test_cache_is_the_users_own_unless_a_root_is_given(tmp_path: Path) -> None:
    assert (cache_folder(None), cache_folder("/given")) == (tmp_path / "user-cache" / "cnnbench", Path("/given"))


def test_only_the_smallest_file_is_read_to_find_a_folder(
    fashion: PublicDataset, arrays: ByFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "data", arrays)
    (tmp_path / "data" / f"{IMAGES}.gz").write_bytes(b"not looked at")
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    assert find_folder(fashion) == tmp_path / "data"


def test_a_folder_with_another_data_set_or_a_part_is_not_the_one(
    fashion: PublicDataset, arrays: ByFile, digit_arrays: ByFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "digits", digit_arrays)
    put(tmp_path / "part", arrays)
    (tmp_path / "part" / f"{IMAGES}.gz").unlink()
    monkeypatch.setenv("CNNBENCH_DATA", f"{tmp_path / 'digits'}{os.pathsep}{tmp_path / 'part'}")
    assert find_folder(fashion) is None


@pytest.mark.parametrize("name", ["cifar10", "emnist_letters"])
def test_folders_of_archives_are_found_by_size(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, size = next(iter(CATALOG[name].archives.items()))
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path))
    (tmp_path / archive).write_bytes(b"a part of it")
    assert find_folder(CATALOG[name]) is None
    os.truncate(tmp_path / archive, size)
    assert find_folder(CATALOG[name]) == tmp_path


def test_reading_what_is_there_imports_neither_torch_nor_torchvision() -> None:
    code = (
        "import sys; from cnnbench.data import catalog, download\n"
        "download.load(catalog.get('sample')); print({'torch', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n"


# Verifying


def flip_a_bit(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda packed: b"",
    "ends in the header": lambda packed: packed[:5],
    "lacks its last byte": lambda packed: packed[:-1],
    "one bit flipped": flip_a_bit,
    "nonsense after the header": lambda packed: packed[:10] + b"\xff" * len(packed[10:]),
    "a page of a proxy": lambda packed: b"<html>" + packed,
    "other content": lambda packed: gzip.compress(b"something else"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_reported_and_not_used(
    fashion: PublicDataset, arrays: ByFile, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    put(cache, arrays)
    path = cache / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    found = find_files(fashion, str(cache))
    assert (found.missing, len(found.tried)) == ([IMAGES], 1)
    assert found.tried[0].startswith(f"{path}: damaged or truncated")


def test_a_good_file_stands_in_for_wrong_ones(
    fashion: PublicDataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "bad", {IMAGES: arrays[IMAGES][:-1]}, packed=False)
    put(tmp_path / "good", arrays)
    (tmp_path / "good" / IMAGES).write_bytes(b"something else")  # beside the gzipped one
    monkeypatch.setenv("CNNBENCH_DATA", os.pathsep.join(str(tmp_path / name) for name in ("bad", "good")))
    assert same(load_arrays(fashion, cache), arrays)


@pytest.mark.parametrize(("wrong", "owner"), [("mnist", "MNIST"), ("kmnist", "Kuzushiji-MNIST")])
def test_another_data_set_of_the_same_file_names_is_recognized(
    fashion: PublicDataset,
    digit_arrays: ByFile,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
    owner: str,
) -> None:
    put(cache, digit_arrays)
    other, name = made_up(wrong, digit_arrays), IMAGES
    if wrong == "kmnist":  # known by the digests of its archives
        name = f"{IMAGES}.gz"
        digest = download.hashlib.sha256((cache / name).read_bytes()).hexdigest()
        other = dataclasses.replace(other, sha256={name: digest})
    monkeypatch.setitem(CATALOG, wrong, other)
    found = find_files(fashion, str(cache))
    assert found.tried[0] == f"{cache / IMAGES}.gz: holds {owner}'s {name}, not Fashion-MNIST's {IMAGES}"


def test_a_file_under_the_name_of_another_is_recognized(fashion: PublicDataset, arrays: ByFile, cache: Path) -> None:
    put(cache, {IMAGES: arrays[FILES[2]]})
    expected = f"{cache / IMAGES}.gz: holds Fashion-MNIST's {FILES[2]}, not Fashion-MNIST's {IMAGES}"
    assert find_files(fashion, str(cache)).tried == [expected]


def test_what_is_unpacked_is_not_used_where_only_archives_are_known(tmp_path: Path) -> None:
    (tmp_path / IMAGES).write_bytes(b"anything")
    assert f"put {IMAGES}.gz, " in message(get("kmnist"), tmp_path)


def test_a_file_that_may_not_be_read_is_passed_over(
    fashion: PublicDataset, arrays: ByFile, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    put(cache, arrays)
    monkeypatch.setattr(Path, "open", refuse)
    assert find_files(fashion, str(cache)).tried[0] == f"{cache / IMAGES}.gz: cannot be read (Permission denied)"


def test_a_named_pipe_is_not_waited_for(fashion: PublicDataset, cache: Path) -> None:
    cache.mkdir()
    os.mkfifo(cache / IMAGES)
    assert find_files(fashion, str(cache)).tried == []


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


@pytest.mark.parametrize(("suffix", "content"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_file_that_is_too_large_is_reported_and_takes_no_memory(
    fashion: PublicDataset, cache: Path, suffix: str, content: bytes
) -> None:
    cache.mkdir()
    path = cache / f"{IMAGES}{suffix}"
    path.write_bytes(content)
    tracemalloc.start()
    found = find_files(fashion, str(cache))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [line.startswith(f"{path}: larger than 4") for line in found.tried] == [True]
    assert peak < 1_000_000


def test_a_file_that_gzip_made_no_smaller_is_used(cache: Path) -> None:
    sample = get("sample")
    content = gzip.decompress((sample.system_folders[0] / f"{IMAGES}.gz").read_bytes())
    pieces = [content[start : start + 4096] for start in range(0, len(content), 4096)]
    cache.mkdir()
    (cache / f"{IMAGES}.gz").write_bytes(b"".join(gzip.compress(piece, 0) for piece in pieces))
    dataset = dataclasses.replace(sample, system_folders=())
    assert find_files(dataset, str(cache)).contents[IMAGES] == content


# Nothing to be had


def test_the_error_names_what_is_missing_what_was_tried_and_how_to_go_on(
    fashion: PublicDataset, mnist: PublicDataset, arrays: ByFile, digit_arrays: ByFile, cache: Path
) -> None:
    put(cache / "fashion_mnist", {FILES[1]: arrays[FILES[1]]})
    put(cache, {IMAGES: digit_arrays[IMAGES]})
    lines = message(fashion, cache).splitlines()
    assert lines == [
        "Fashion-MNIST is not complete on this machine and could not be fetched.",
        f"Missing: {IMAGES}, {FILES[2]}, {FILES[3]}",
        "What was tried:",
        f"  {cache / IMAGES}.gz: holds MNIST's {IMAGES}, not Fashion-MNIST's {IMAGES}",
        f"  {NOWHERE}{IMAGES}.gz: [Errno {errno.ECONNREFUSED}] Connection refused",
        "How to go on:",
        f"  put {IMAGES}.gz, {FILES[2]}.gz, {FILES[3]}.gz into {cache / 'fashion_mnist'}, "
        "or name their folder in CNNBENCH_DATA,",
        "  on Debian or Ubuntu: apt-get install dataset-fashion-mnist",
        "  or use data=sample, real images that are installed with cnnbench",
    ]


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "sample"])
def test_files_put_where_the_error_says_are_found(arrays: ByFile, cache: Path, name: str) -> None:
    dataset = made_up(name, arrays)
    advised = message(dataset, cache).partition(" into ")[2].partition(",")[0]
    put(Path(advised), arrays)
    assert same(load_arrays(dataset, cache), arrays)


def test_a_data_set_that_is_not_published_needs_no_cache(arrays: ByFile, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert message(made_up("sample", arrays), tmp_path / "file").startswith("part of Fashion-MNIST is not complete")


def test_a_cache_that_cannot_be_written_to_is_a_data_error(fashion: PublicDataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert message(fashion, tmp_path / "file").startswith("Cannot write to the cache")


def test_a_full_disk_is_not_taken_for_a_broken_mirror(
    fashion: PublicDataset, mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, progress: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    told = message(fashion, cache)
    assert told.startswith(f"Cannot write to the cache {cache / 'fashion_mnist'}")
    assert told.endswith("Name another folder with data.root=DIR.")


@pytest.mark.parametrize("error", [ImportError("No module named 'torchvision'"), RuntimeError("no operator nms")])
def test_without_a_working_torchvision_the_error_says_what_to_install(
    fashion: PublicDataset, cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "torchvision":
                raise error

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert f"torchvision cannot be imported ({error}): pip install torchvision\n" in message(fashion, cache)


# Downloading


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [io.StringIO(), Terminal()], ids=["log file", "terminal"])
def test_missing_files_are_downloaded_with_a_bar_on_a_terminal(
    fashion: PublicDataset,
    mirror: Mirror,
    arrays: ByFile,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    stderr: io.StringIO,
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert same(load_arrays(fashion, cache), arrays)
    assert ("100%" in stderr.getvalue()) == stderr.isatty()


def test_downloads_are_found_by_the_next_process_and_nothing_else_is_left(
    fashion: PublicDataset, mirror: Mirror, arrays: ByFile, cache: Path
) -> None:
    load(fashion, str(cache))
    download.cache.clear()
    assert same(load_arrays(fashion, cache), arrays)
    assert mirror.requests == PACKED
    assert {path.name for path in (cache / "fashion_mnist").iterdir()} == {*PACKED, ".lock"}


def test_only_missing_files_are_downloaded(fashion: PublicDataset, mirror: Mirror, arrays: ByFile, cache: Path) -> None:
    put(cache, {name: arrays[name] for name in FILES[1:]})
    load(fashion, str(cache))
    assert mirror.requests == PACKED[:1]


def test_the_timeout_of_other_connections_stays(fashion: PublicDataset, mirror: Mirror, cache: Path) -> None:
    socket.setdefaulttimeout(77)
    try:
        load(fashion, str(cache))
        assert socket.getdefaulttimeout() == 77
    finally:
        socket.setdefaulttimeout(None)


def test_a_size_that_is_not_announced_does_not_matter(
    fashion: PublicDataset, mirror: Mirror, arrays: ByFile, cache: Path
) -> None:
    mirror.fault = "no length"
    assert same(load_arrays(fashion, cache), arrays)


def serve_instead(content: bytes) -> Callable[[Mirror], None]:
    return lambda mirror: mirror.files.update(dict.fromkeys(mirror.files, content))


BAD_MIRRORS: dict[str, tuple[Callable[[Mirror], None], str]] = {
    "has no such file": (lambda mirror: mirror.files.clear(), "Not Found"),
    "has other files": (serve_instead(gzip.compress(b"other")), "damaged or truncated, or not Fashion-MNIST's"),
    "sends a page": (serve_instead(b"<html>"), "damaged or truncated (Not a gzipped file"),
    "ends too soon": (lambda mirror: setattr(mirror, "cut_short", 1000), "damaged or truncated"),
    "speaks no HTTP": (lambda mirror: setattr(mirror, "fault", "no HTTP"), "hello"),
    "announces no number": (lambda mirror: setattr(mirror, "fault", "odd length"), "invalid literal"),
    "is silent": (lambda mirror: setattr(mirror, "fault", "silent"), "timed out"),
    "refuses connections": (lambda mirror: setattr(mirror, "url", NOWHERE), "Connection refused"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("worsen", "told"), BAD_MIRRORS.values(), ids=BAD_MIRRORS.keys())
def test_a_mirror_is_reported_and_another_stands_in_if_it(
    fashion: PublicDataset,
    mirror: Mirror,
    arrays: ByFile,
    start_mirror: Callable[[dict[str, bytes]], Mirror],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    worsen: Callable[[Mirror], None],
    told: str,
) -> None:
    from torchvision import datasets

    monkeypatch.setattr(download, "TIMEOUT_S", 0.5)
    bad = start_mirror(packed_files(arrays))
    worsen(bad)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [bad.url])
    assert f"{bad.url}{IMAGES}.gz: " in (text := message(fashion, cache))
    assert told in text
    assert [path.name for path in cache.rglob("*")] == ["fashion_mnist", ".lock"]
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [bad.url, mirror.url])
    assert same(load_arrays(fashion, cache), arrays)


def test_an_answer_that_ends_too_soon_is_asked_for_again(
    fashion: PublicDataset, mirror: Mirror, arrays: ByFile, cache: Path
) -> None:
    mirror.cut_short = 1
    assert same(load_arrays(fashion, cache), arrays)
    assert mirror.requests == [PACKED[0], *PACKED]


def test_the_next_file_is_not_tried_where_one_cannot_be_had(
    fashion: PublicDataset, mirror: Mirror, cache: Path
) -> None:
    mirror.files.pop(PACKED[1])
    assert f"Missing: {', '.join(FILES[1:])}\n" in message(fashion, cache)
    assert mirror.requests == [PACKED[0], *[PACKED[1]] * 2]


def test_mnist_from_a_mirror_of_fashion_mnist_is_recognized(
    fashion: PublicDataset, mnist: PublicDataset, digit_arrays: ByFile, mirror: Mirror, cache: Path
) -> None:
    mirror.files = packed_files(digit_arrays)
    assert f"{mirror.url}{IMAGES}.gz: holds MNIST's {IMAGES}" in message(fashion, cache)


def test_a_wrong_file_of_the_cache_is_kept_beside_the_right_one(
    fashion: PublicDataset, mirror: Mirror, arrays: ByFile, cache: Path
) -> None:
    wrong = cache / "fashion_mnist" / f"{IMAGES}.gz"
    put(wrong.parent, arrays)
    wrong.write_bytes(b"wrong")
    assert same(load_arrays(fashion, cache), arrays)
    assert wrong.with_name(f"{wrong.name}.damaged").read_bytes() == b"wrong"


def test_a_wrong_file_stays_if_there_is_none_better_and_outside_the_cache(
    fashion: PublicDataset, mirror: Mirror, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [folder / "fashion_mnist" / f"{IMAGES}.gz" for folder in (cache, tmp_path / "data")]
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    for place in places:
        place.parent.mkdir(parents=True)
        place.write_bytes(b"wrong")
    packed, mirror.files = mirror.files, {}
    message(fashion, cache)
    assert [place.read_bytes() for place in places] == [b"wrong"] * 2
    mirror.files = packed
    load(fashion, str(cache))
    assert places[1].read_bytes() == b"wrong"


def test_what_a_killed_run_left_does_not_matter(
    fashion: PublicDataset, mirror: Mirror, arrays: ByFile, cache: Path
) -> None:
    left = cache / "fashion_mnist" / ".part-left"
    left.mkdir(parents=True)
    for name in PACKED:
        (left / name).write_bytes(b"half")
    assert same(load_arrays(fashion, cache), arrays)


def test_an_interrupted_download_leaves_nothing(
    fashion: PublicDataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(url: str, path: str, progress: bool) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.hub.download_url_to_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(fashion, str(cache))
    assert [path.name for path in cache.rglob("*")] == ["fashion_mnist", ".lock"]


def addresses(name: str) -> dict[str, list[str]]:
    return download._published_at(get(name), [])


@pytest.mark.parametrize("name", [name for name in CATALOG if CATALOG[name].source])
def test_torchvision_has_an_address_of_every_file(name: str) -> None:
    files = {file if "." in file else f"{file}.gz" for file in CATALOG[name].sha256}
    found = addresses(name)
    assert found.keys() == (files & found.keys() if CATALOG[name].archives else files)
    assert all(url.endswith(f"/{file}") for file, urls in found.items() for url in urls)


# Reading ahead


def until_read() -> None:
    for future in download._prefetched.values():
        future.exception()


def test_what_was_prefetched_is_loaded_once(fashion: PublicDataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays)
    prefetch(fashion, str(cache))
    until_read()
    shutil.rmtree(cache)
    assert same(load_arrays(fashion, cache), arrays)
    download.cache.clear()
    message(fashion, cache)


def test_what_was_prefetched_elsewhere_is_not_loaded(
    fashion: PublicDataset, arrays: ByFile, cache: Path, tmp_path: Path
) -> None:
    put(cache, arrays)
    prefetch(fashion, str(cache))
    message(fashion, tmp_path / "elsewhere")


def test_what_is_wrong_with_files_is_reported_by_load(fashion: PublicDataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays)
    (cache / f"{IMAGES}.gz").write_bytes(b"not gzipped")
    without = message(fashion, cache)
    prefetch(fashion, str(cache))
    assert message(fashion, cache) == without


def test_an_error_while_reading_ahead_is_raised_by_load(
    fashion: PublicDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(download, "find_files", fail)
    prefetch(fashion)
    with pytest.raises(MemoryError):
        load(fashion)


def test_the_end_of_the_program_does_not_wait_for_what_is_prefetched(
    fashion: PublicDataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(download, "find_files", lambda *_: go_on.wait())
    before = set(threading.enumerate())
    prefetch(fashion, str(cache))
    threads = set(threading.enumerate()) - before
    go_on.set()
    assert [thread.daemon for thread in threads] == [True]


def test_load_local_downloads_nothing(
    fashion: PublicDataset, mirror: Mirror, arrays: ByFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_local(fashion) is None
    assert mirror.requests == []
    put(tmp_path / "data", arrays)
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    local = load_local(fashion)
    assert local is not None
    assert same(local, arrays)
