"""What was loaded last stays for the next job, and is never given for anything else."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrors import ByFile, made_up, made_up_arrays, put, same

from cnnbench.data import kept, storage, verifying
from cnnbench.data.catalog import FILES, Dataset
from cnnbench.data.storage import load, read_ahead
from cnnbench.errors import DataError

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_kept", None)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files that are read, as they are."""
    paths: list[Path] = []
    read = verifying._read
    monkeypatch.setattr(verifying, "_read", lambda path, form: paths.append(path) or read(path, form))
    return paths


def test_a_second_load_opens_no_file(fashion: Dataset, arrays: ByFile, cache: Path, opened: list[Path]) -> None:
    put(cache, arrays)
    load(fashion, str(cache))
    opened.clear()
    assert same(load(fashion, str(cache)), arrays)
    assert opened == []


def test_nothing_is_read_ahead_of_a_second_load(
    fashion: Dataset, arrays: ByFile, cache: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_ahead", {})  # in which refused commands may have left some
    put(cache, arrays)
    load(fashion, str(cache))
    opened.clear()
    read_ahead(fashion, str(cache))
    assert storage._ahead == {}
    load(fashion, str(cache))
    assert opened == []


def test_nobody_can_change_what_others_are_given(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays)
    with pytest.raises(ValueError, match="read-only"):
        load(fashion, str(cache)).train_images[0] = 0


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_damaged_meanwhile_is_not_used(
    fashion: Dataset, arrays: ByFile, cache: Path, name: str
) -> None:
    put(cache, arrays)
    load(fashion, str(cache))
    path = next(cache.glob(f"{name}*"))
    content = bytearray(path.read_bytes())
    content[-9] ^= 1  # of the same length
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        load(fashion, str(cache))


def test_a_file_that_was_replaced_with_the_time_of_the_old_is_read(
    fashion: Dataset, arrays: ByFile, cache: Path, opened: list[Path]
) -> None:
    put(cache, arrays)
    load(fashion, str(cache))
    opened.clear()
    path = next(cache.glob(f"{FILES[0]}*"))
    before = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(path)
    load(fashion, str(cache))
    assert path in opened


def test_a_file_that_is_gone_is_missed(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays)
    load(fashion, str(cache))
    next(cache.glob(f"{FILES[0]}*")).unlink()
    with pytest.raises(DataError, match=f"Missing: {FILES[0]}"):
        load(fashion, str(cache))


def test_another_root_is_looked_into(fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path) -> None:
    put(cache, arrays)
    load(fashion, str(cache))
    with pytest.raises(DataError):
        load(fashion, str(tmp_path / "elsewhere"))


def test_another_folder_of_the_environment_is_looked_into(
    fashion: Dataset, arrays: ByFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Path]
) -> None:
    for folder in ("one", "other"):
        put(tmp_path / folder, arrays)
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "one"))
    load(fashion, str(cache))
    opened.clear()
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "other"))
    load(fashion, str(cache))
    assert {path.parent.name for path in opened} == {"other"}


def test_another_data_set_of_the_same_name_is_not_the_same(fashion: Dataset, arrays: ByFile, cache: Path) -> None:
    put(cache, arrays)
    load(fashion, str(cache))
    with pytest.raises(DataError):
        load(made_up("fashion_mnist", made_up_arrays(7)), str(cache))


def test_the_second_of_two_data_sets_takes_the_place_of_the_first(
    fashion: Dataset, mnist: Dataset, arrays: ByFile, digit_arrays: ByFile, cache: Path, tmp_path: Path
) -> None:
    put(cache, arrays)
    put(tmp_path / "digits", digit_arrays)
    load(fashion, str(cache))
    load(mnist, str(tmp_path / "digits"))
    assert kept._kept is not None
    assert kept._kept.content[0] == mnist
