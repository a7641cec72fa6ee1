"""The in-memory cache returns the last data set, and no other data set or changed file."""

import os
from pathlib import Path

import pytest
from helpers.data_mirrors import IMAGES, PACKED, Site, make_arrays, replace_content

from cnnbench.data import cache, download, public_files
from cnnbench.data.catalog import FILES, PublicDataset
from cnnbench.data.download import load_public_dataset


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the files that are read."""
    names: list[str] = []
    read = public_files.read_verified

    def record(dataset: PublicDataset, file: str, path: Path) -> bytes:
        names.append(path.name)
        assert cache._entry is None, "two data sets would be in memory"
        return read(dataset, file, path)

    monkeypatch.setattr(public_files, "read_verified", record)
    return names


@pytest.fixture
def loaded(fashion: Site, opened: list[str]) -> Site:
    """Load Fashion-MNIST once from the cache folder."""
    fashion.put(fashion.cache)
    assert fashion.loads()
    opened.clear()
    return fashion


def test_second_load_opens_no_file(loaded: Site, opened: list[str]) -> None:
    loaded.prefetch()
    assert download._prefetched == {}
    assert loaded.loads()
    assert opened == []


def test_cached_arrays_are_read_only(loaded: Site) -> None:
    for array in load_public_dataset(loaded.dataset, str(loaded.cache))[1][:4]:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("name", PACKED)
def test_file_damaged_after_loading_is_reported(loaded: Site, name: str) -> None:
    path = loaded.cache / name
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-9] ^= 1  # the length stays
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert f"Missing: {name.removesuffix('.gz')}\n" in loaded.error()


def test_replaced_file_with_the_same_time_is_read_again(loaded: Site, opened: list[str]) -> None:
    path = loaded.cache / PACKED[0]
    before = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(path)
    assert loaded.loads()
    assert opened == PACKED


def test_deleted_file_is_reported_as_missing(loaded: Site) -> None:
    (loaded.cache / PACKED[0]).unlink()
    assert f"Missing: {IMAGES}\n" in loaded.error()


def test_cache_is_not_used_for_another_root(loaded: Site, tmp_path: Path) -> None:
    loaded.cache = tmp_path / "elsewhere"
    loaded.error()


def test_cache_is_not_used_for_another_value_of_cnnbench_data(
    loaded: Site, opened: list[str], tmp_path: Path
) -> None:
    loaded.look_into(tmp_path)
    assert loaded.loads()
    assert opened == PACKED


def test_cache_is_not_used_for_another_data_set_of_the_same_name(loaded: Site) -> None:
    loaded.dataset = replace_content("fashion_mnist", make_arrays(7))
    loaded.error()


def test_cache_holds_the_last_data_set_only(
    loaded: Site, mnist: Site, opened: list[str], tmp_path: Path
) -> None:
    mnist.cache = tmp_path / "digits"
    mnist.put(mnist.cache)
    assert (mnist.loads(), mnist.loads()) == (True, True)
    assert len(opened) == len(FILES)
    assert loaded.loads()
    assert len(opened) == 2 * len(FILES)
