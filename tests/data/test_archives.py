"""Parsing of the files of public data sets, with made-up content in the real formats."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers.public_datasets import make_archive, make_cifar_files, make_images, make_published

from cnnbench.data.archives import parse_files
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import CATALOG, get
from cnnbench.data.download import load_public_dataset
from cnnbench.data.public_files import find_files
from cnnbench.errors import DataError

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")


def are_equal(arrays: Arrays, expected: Arrays) -> bool:
    return all(map(np.array_equal, arrays, expected))


def array_formats(arrays: Arrays) -> set[tuple[str, bool]]:
    """Return the type of each array, and whether it is C-contiguous."""
    return {(array.dtype.name, array.flags.c_contiguous) for array in arrays[:4]}


@pytest.mark.parametrize("place", ["", "first", "last"])
@pytest.mark.parametrize("name", [name for name in CATALOG if name != "sample"])
def test_published_files_are_parsed_from_each_named_folder(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expect upright images of EMNIST, its letters numbered from 0, and class labels of QMNIST."""
    dataset, files = make_published(name)
    folder = tmp_path / {"": "", "first": dataset.folders[0], "last": dataset.folders[-1]}[place]
    folder.mkdir(exist_ok=True, parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path))
    _, arrays = load_public_dataset(dataset)
    assert are_equal(arrays, make_images(name))
    assert array_formats(arrays) == {("uint8", True)}


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("is_binary", [True, False])
def test_cifar_archives_are_parsed_in_the_order_of_the_batches(name: str, is_binary: bool) -> None:
    arrays = make_images(name)
    files = dict(reversed(make_cifar_files(name, arrays, is_binary).items()))
    parsed = parse_files(get(name), [make_archive(files)])
    assert are_equal(parsed, arrays)
    assert array_formats(parsed) == {("uint8", True)}


@pytest.mark.parametrize("index", [0, 1], ids=["python", "binary"])
def test_one_archive_of_cifar_is_enough(index: int, tmp_path: Path) -> None:
    dataset, files = make_published("cifar10")
    name, content = list(files.items())[index]
    (tmp_path / name).write_bytes(content)
    found = find_files(dataset, str(tmp_path))
    assert (found.missing, list(found.paths)) == ([], [name])


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("hello from the archive",)


def test_changed_archive_is_not_unpickled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, _ = make_published("cifar10")
    hostile = make_archive({"cifar-10-batches-py/test_batch": pickle.dumps(Hostile())})
    for name in dataset.archives:
        (tmp_path / name).write_bytes(hostile)
    message = r"put cifar-10-python\.tar\.gz or cifar-10-binary\.tar\.gz into"
    with pytest.raises(DataError, match=message):
        load_public_dataset(dataset, str(tmp_path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["kmnist", "emnist_letters"])
def test_unpublished_mean_and_std_are_measured(name: str, tmp_path: Path) -> None:
    dataset, files = make_published(name)
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    measured, arrays = load_public_dataset(dataset, str(tmp_path))
    pixels = arrays.train_images / 255
    assert (*measured.mean, *measured.std) == (round(pixels.mean(), 4), round(pixels.std(), 4))
    assert (dataset.is_measured, measured.is_measured) == (False, True)
    assert load_public_dataset(dataset, str(tmp_path)) == (measured, arrays)  # from the cache
