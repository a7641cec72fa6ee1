"""Finding and verifying the files of public data sets, with small made-up data sets."""

import gzip
import hashlib
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.data_mirrors import IMAGES, PACKED, Site, make_packed_files, write_files

from cnnbench.data.catalog import CATALOG, FILES, get
from cnnbench.data.public_files import cache_folder, find_files

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")


@pytest.mark.parametrize("packed", [True, False], ids=["gzipped", "plain"])
@pytest.mark.parametrize("inside", ["", "fashion_mnist", "fashion-mnist", "FashionMNIST/raw"])
def test_files_are_found_in_a_named_folder(
    fashion: Site, tmp_path: Path, inside: str, packed: bool
) -> None:
    fashion.put(tmp_path / "data" / inside, packed)
    fashion.look_into(tmp_path / "data")
    assert fashion.loads()


@pytest.mark.parametrize("inside", ["", "mnist", "MNIST/raw"])
def test_two_data_sets_share_a_folder(fashion: Site, mnist: Site, inside: str) -> None:
    fashion.put(fashion.cache / "FashionMNIST/raw")
    mnist.put(fashion.cache / inside)
    assert (fashion.loads(), mnist.loads()) == (True, True)


def test_files_are_found_in_several_folders(fashion: Site, tmp_path: Path) -> None:
    for name in FILES:
        write_files(tmp_path / name, {name: fashion.arrays[name]})
    fashion.look_into(*(tmp_path / name for name in FILES))
    assert fashion.loads()


def test_cache_is_searched_first_and_system_folders_last(fashion: Site, tmp_path: Path) -> None:
    in_order = [fashion.cache, tmp_path / "first", tmp_path / "second", tmp_path / "system"]
    for folder in in_order:
        fashion.put(folder)
    fashion.look_into(*in_order[1:3])
    fashion.dataset = replace(fashion.dataset, system_folders=(in_order[3],))
    for folder in in_order:
        assert fashion.find().paths[IMAGES] == folder / PACKED[0]
        (folder / PACKED[0]).unlink()


def test_empty_parts_of_cnnbench_data_are_not_the_working_folder(
    fashion: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fashion.put(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    fashion.look_into("", "")
    assert fashion.find().missing == list(FILES)


def test_tilde_in_cnnbench_data_is_the_home_folder(
    fashion: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fashion.put(tmp_path / "home" / "data")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    fashion.look_into("~/data")
    assert fashion.loads()


def test_folder_that_cannot_be_searched_is_skipped(fashion: Site, tmp_path: Path) -> None:
    fashion.put(tmp_path / "good")
    fashion.look_into("x" * 5000, tmp_path / "good")
    found = fashion.find()
    assert (found.missing, found.folders) == ([], str(tmp_path / "good"))


def test_cache_folder_is_the_root_or_the_users_cache(tmp_path: Path) -> None:
    assert cache_folder(None) == tmp_path / "user-cache" / "cnnbench"
    assert cache_folder("/given") == Path("/given")


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
    "of the maximum size": lambda packed: bytes(4580),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_file_is_reported_and_not_used(
    fashion: Site, damage: Callable[[bytes], bytes]
) -> None:
    fashion.put(fashion.cache)
    path = fashion.cache / PACKED[0]
    path.write_bytes(damage(path.read_bytes()))
    found = fashion.find()
    assert (found.missing, len(found.tried)) == ([IMAGES], 1)
    assert found.tried[0].startswith(f"{path}: damaged or truncated")


def test_file_of_several_gzip_members_is_read(fashion: Site) -> None:
    fashion.put(fashion.cache)
    path = fashion.cache / PACKED[0]
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:100]) + gzip.compress(content[100:]) + bytes(8))
    assert fashion.loads()


def test_verified_file_is_used_instead_of_damaged_ones(fashion: Site, tmp_path: Path) -> None:
    write_files(tmp_path / "bad", {IMAGES: fashion.arrays[IMAGES][:-1]}, packed=False)
    fashion.put(tmp_path / "good")
    (tmp_path / "good" / IMAGES).write_bytes(b"something else")  # next to the gzipped file
    fashion.look_into(tmp_path / "bad", tmp_path / "good")
    assert fashion.loads()


def test_files_of_another_data_set_are_reported_by_its_name(
    fashion: Site, mnist: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist.put(fashion.cache)
    (fashion.cache / PACKED[3]).write_bytes(make_packed_files(fashion.arrays)[PACKED[1]])
    digest = hashlib.sha256((fashion.cache / PACKED[2]).read_bytes()).hexdigest()
    kmnist = replace(get("kmnist"), sha256={PACKED[2]: digest})
    monkeypatch.delitem(mnist.dataset.sha256, FILES[2])  # type: ignore[arg-type]  # a dict
    monkeypatch.setitem(CATALOG, "kmnist", kmnist)
    owners = [f"MNIST's {FILES[0]}", f"MNIST's {FILES[1]}", f"Kuzushiji-MNIST's {PACKED[2]}"]
    owners.append(f"Fashion-MNIST's {FILES[1]}")
    assert fashion.find().tried == [
        f"{fashion.cache / file}.gz: holds {owner}, not Fashion-MNIST's {file}"
        for file, owner in zip(FILES, owners, strict=True)
    ]


def test_file_without_read_permission_is_skipped(
    fashion: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    fashion.put(fashion.cache)
    monkeypatch.setattr(Path, "open", refuse)
    expected = f"{fashion.cache / PACKED[0]}: cannot be read (Permission denied)"
    assert fashion.find().tried[0] == expected


def test_fifos_are_not_opened(fashion: Site) -> None:
    fashion.cache.mkdir()
    os.mkfifo(fashion.cache / IMAGES)
    assert fashion.find().tried == []


# The maximum for the made-up images is 4,580 bytes. The first two compress to less than that.
TOO_LARGE: dict[str, tuple[str, bytes]] = {
    "a bomb": (".gz", gzip.compress(bytes(4_000_000))),
    "a bomb of many members": (".gz", gzip.compress(bytes(200_000)) * 18),
    "a bomb of members that are empty": (".gz", gzip.compress(b"") * 200_000),
    "a large compressed file": (".gz", gzip.compress(bytes(4_000_000), compresslevel=0)),
    "a large plain file": ("", bytes(4_000_000)),
    "a plain file one byte too long": ("", bytes(4581)),
    "a compressed file one byte too long": (".gz", gzip.compress(bytes(4581))),
}


@pytest.mark.parametrize(("suffix", "content"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_too_large_file_is_reported_without_reading_it_all(
    fashion: Site, suffix: str, content: bytes
) -> None:
    fashion.cache.mkdir()
    path = fashion.cache / f"{IMAGES}{suffix}"
    path.write_bytes(content)
    tracemalloc.start()
    found = fashion.find()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [line.startswith(f"{path}: larger than 4") for line in found.tried] == [True]
    assert peak < 1_000_000


def test_gzipped_file_larger_than_its_content_is_used(tmp_path: Path) -> None:
    sample = get("sample")
    content = gzip.decompress((sample.system_folders[0] / PACKED[0]).read_bytes())
    pieces = [content[start : start + 4096] for start in range(0, len(content), 4096)]
    (tmp_path / PACKED[0]).write_bytes(b"".join(gzip.compress(piece, 0) for piece in pieces))
    assert find_files(replace(sample, system_folders=()), str(tmp_path)).contents[IMAGES] == content
