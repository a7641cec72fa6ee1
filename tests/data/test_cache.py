"""What was loaded last stays for the next job, and is never given for anything else."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrors import IMAGES, ByFile, made_up, made_up_arrays, put, same

from cnnbench.data import download
from cnnbench.data.catalog import FILES, PublicDataset
from cnnbench.data.download import load, prefetch
from cnnbench.errors import DataError

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files that are read, as they are."""
    paths: list[Path] = []
    read = download._read_verified

    def note(dataset: PublicDataset, file: str, path: Path) -> bytes:
        paths.append(path)
        return read(dataset, file, path)

    monkeypatch.setattr(download, "_read_verified", note)
    return paths


@pytest.fixture
def loaded(fashion: PublicDataset, arrays: ByFile, cache: Path, opened: list[Path]) -> PublicDataset:
    """Fashion-MNIST, which was loaded once from `cache`."""
    put(cache, arrays)
    load(fashion, str(cache))
    opened.clear()
    return fashion


def test_a_second_load_opens_no_file(loaded: PublicDataset, arrays: ByFile, cache: Path, opened: list[Path]) -> None:
    prefetch(loaded, str(cache))
    assert download._prefetched == {}
    assert same(load(loaded, str(cache))[1], arrays)
    assert opened == []


def test_nobody_can_change_what_others_are_given(loaded: PublicDataset, cache: Path) -> None:
    for array in load(loaded, str(cache))[1][:4]:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_damaged_meanwhile_is_not_used(loaded: PublicDataset, cache: Path, name: str) -> None:
    path = next(cache.glob(f"{name}*"))
    content = bytearray(path.read_bytes())
    content[-9] ^= 1  # of the same length
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        load(loaded, str(cache))


def test_a_file_that_was_replaced_with_the_time_of_the_old_is_read(
    loaded: PublicDataset, cache: Path, opened: list[Path]
) -> None:
    path = cache / f"{IMAGES}.gz"
    before = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(path)
    load(loaded, str(cache))
    assert path in opened


def test_a_file_that_is_gone_is_missed(loaded: PublicDataset, cache: Path) -> None:
    (cache / f"{IMAGES}.gz").unlink()
    with pytest.raises(DataError, match=f"Missing: {IMAGES}"):
        load(loaded, str(cache))


def test_another_root_is_looked_into(loaded: PublicDataset, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        load(loaded, str(tmp_path / "elsewhere"))


def test_another_folder_of_the_environment_is_looked_into(
    loaded: PublicDataset, cache: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Path]
) -> None:
    monkeypatch.setenv("CNNBENCH_DATA", str(cache))
    load(loaded, str(cache))
    assert len(opened) == len(FILES)


def test_another_data_set_of_the_same_name_is_not_the_same(loaded: PublicDataset, cache: Path) -> None:
    with pytest.raises(DataError):
        load(made_up("fashion_mnist", made_up_arrays(7)), str(cache))


def test_the_second_of_two_data_sets_takes_the_place_of_the_first(
    loaded: PublicDataset,
    mnist: PublicDataset,
    digit_arrays: ByFile,
    cache: Path,
    tmp_path: Path,
    opened: list[Path],
) -> None:
    put(tmp_path / "digits", digit_arrays)
    load(mnist, str(tmp_path / "digits"))
    opened.clear()
    load(mnist, str(tmp_path / "digits"))
    assert opened == []
    load(loaded, str(cache))
    assert len(opened) == len(FILES)
