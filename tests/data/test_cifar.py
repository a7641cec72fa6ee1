"""CIFAR's archives: found, verified, fetched and read, in both their forms."""

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cifar_archives import archive_of, binary_files, made_up_cifar, made_up_images, pickle_of, python_files
from mirrors import Mirror

from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset, get
from cnnbench.data.cifar import parse_archive
from cnnbench.data.storage import find, load
from cnnbench.errors import DataError

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")

NAMES = ("cifar10", "cifar100")
EACH = pytest.mark.parametrize("name", NAMES)
EACH_FORM = pytest.mark.parametrize("files_of", [binary_files, python_files])


def equal(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))


@EACH
@EACH_FORM
def test_an_archive_is_read_in_the_order_of_its_batches(
    name: str, files_of: Callable[[str, Arrays], dict[str, bytes]]
) -> None:
    arrays = made_up_images(name)
    files = files_of(name, arrays)
    turned = dict(reversed(files.items()))  # in an archive batches need not be in their order
    assert equal(parse_archive(archive_of(turned)), arrays)


@EACH
@EACH_FORM
def test_labels_and_pixels_are_bytes_in_one_piece(
    name: str, files_of: Callable[[str, Arrays], dict[str, bytes]]
) -> None:
    loaded = parse_archive(archive_of(files_of(name, made_up_images(name))))
    assert {(array.dtype.name, array.flags.c_contiguous) for array in loaded[:4]} == {("uint8", True)}


def test_of_cifar_100_the_labels_are_the_fine_ones() -> None:
    arrays = made_up_images("cifar100")
    loaded = parse_archive(archive_of(binary_files("cifar100", arrays)))
    assert loaded.test_labels.tolist() == arrays.test_labels.tolist() != (arrays.test_labels // 5).tolist()


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("hello from the archive",)


def test_a_pickle_that_asks_for_more_than_arrays_is_not_executed(capsys: pytest.CaptureFixture[str]) -> None:
    files = {**python_files("cifar10", made_up_images("cifar10"))}
    files["cifar-10-batches-py/test_batch"] = pickle_of(Hostile())
    with pytest.raises(pickle.UnpicklingError, match="print"):
        parse_archive(archive_of(files))
    assert capsys.readouterr().out == ""


# Found as the others are


@pytest.fixture(params=NAMES)
def made_up(request: pytest.FixtureRequest) -> tuple[Dataset, dict[str, bytes]]:
    return made_up_cifar(request.param, made_up_images(request.param))


@pytest.mark.parametrize("form", [0, 1], ids=["python", "binary"])
@pytest.mark.parametrize("inside", ["", "{name}", "{NAME}"])
def test_an_archive_is_found_in_a_named_folder(
    made_up: tuple[Dataset, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    inside: str,
    form: int,
) -> None:
    dataset, archives = made_up
    folder = tmp_path / "data" / inside.format(name=dataset.name, NAME=dataset.name.upper())
    folder.mkdir(parents=True)
    file, content = list(archives.items())[form]
    (folder / file).write_bytes(content)
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    assert equal(load(dataset, str(cache)), made_up_images(dataset.name))


def test_an_archive_that_was_changed_is_not_used(made_up: tuple[Dataset, dict[str, bytes]], cache: Path) -> None:
    dataset, archives = made_up
    cache.mkdir()
    for file, content in archives.items():
        (cache / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    tried: list[str] = []
    assert find(dataset, dataset.files[0], str(cache), tried) == (None, None)
    assert [line.startswith(f"{cache / file}: damaged") for line, file in zip(tried, archives, strict=True)] == [
        True
    ] * 2


def test_an_archive_one_byte_too_long_is_told_to_be_too_large(
    made_up: tuple[Dataset, dict[str, bytes]], cache: Path
) -> None:
    dataset, archives = made_up
    cache.mkdir()
    file, content = next(iter(archives.items()))
    (cache / file).write_bytes(content + b"x")
    tried: list[str] = []
    find(dataset, dataset.files[0], str(cache), tried)
    assert tried == [f"{cache / file}: larger than {len(content):,} bytes, the most that it may have"]


def test_the_binary_archive_is_fetched_and_kept(
    made_up: tuple[Dataset, dict[str, bytes]], cache: Path, start_server: Callable[[dict[str, bytes]], Mirror]
) -> None:
    dataset, archives = made_up
    mirror = start_server(archives)
    online = dataclasses.replace(dataset, mirrors=(mirror.url,))
    fetched = load(online, str(cache))
    again = load(dataset, str(cache))
    binary = list(archives)[-1]
    assert (equal(fetched, again), mirror.requests) == (True, [binary])
    assert {path.name for path in (cache / dataset.name).iterdir()} - {".lock"} == {binary}


def test_a_damaged_archive_of_the_cache_is_kept_beside_the_new_one(
    made_up: tuple[Dataset, dict[str, bytes]], cache: Path, start_server: Callable[[dict[str, bytes]], Mirror]
) -> None:
    dataset, archives = made_up
    damaged = cache / dataset.name / list(archives)[-1]
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    load(dataclasses.replace(dataset, mirrors=(start_server(archives).url,)), str(cache))
    assert damaged.with_name(f"{damaged.name}.damaged").read_bytes() == b"damaged"


def test_what_to_put_where_is_told(made_up: tuple[Dataset, dict[str, bytes]], cache: Path) -> None:
    dataset, archives = made_up
    with pytest.raises(DataError) as told:
        load(dataset, str(cache))
    assert f"put {' or '.join(archives)} into {cache / dataset.name}, or" in str(told.value)


# What the catalog says


@pytest.mark.parametrize(("name", "number"), [("cifar10", 10), ("cifar100", 100)])
def test_the_classes_are_as_many_in_alphabetical_order(name: str, number: int) -> None:
    classes = get(name).classes
    assert (len(set(classes)), classes) == (number, tuple(sorted(classes)))


@EACH
def test_it_is_the_binary_archive_that_is_fetched(name: str) -> None:
    dataset = get(name)
    assert dataset.files == (dataset.forms(dataset.files[0])[-1].name,)
    assert "binary" in dataset.files[0]
