"""data=folder with IDX files: read as they are, and all that can be wrong with them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mirrors import ByFile, idx, made_up_arrays, put

from cnnbench.config import DataConfig
from cnnbench.data import cache, datasets
from cnnbench.data.catalog import FILES
from cnnbench.errors import ConfigError, DataError

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    cache.clear()


@pytest.fixture
def arrays() -> ByFile:
    """30 and 10 images of 4 x 4 pixels in ten classes, the last of which are there."""
    return made_up_arrays(0) | {TEST_LABELS: np.arange(10, dtype=np.uint8)}


@pytest.fixture
def folder(tmp_path: Path, arrays: ByFile) -> Path:
    put(tmp_path / "mine", arrays, packed=False)
    return tmp_path / "mine"


@pytest.fixture
def config(folder: Path, data_config: Callable[..., DataConfig]) -> DataConfig:
    return data_config(name="folder", path=str(folder), image_size=28, resize=28)


def problem(config: DataConfig) -> str:
    with pytest.raises(DataError) as told:
        datasets.load(config)
    return str(told.value)


@pytest.mark.parametrize("packed", [True, False])
def test_the_files_are_read_as_they_are(config: DataConfig, folder: Path, arrays: ByFile, packed: bool) -> None:
    put(folder, arrays, packed)
    dataset, loaded = datasets.load(config)
    assert all(np.array_equal(array, arrays[file]) for array, file in zip(loaded[:4], FILES, strict=True))
    assert (dataset.train_examples, dataset.test_examples, dataset.image_size, dataset.in_channels) == (30, 10, 4, 1)
    assert not dataset.split_here


def test_facts_are_those_of_what_is_loaded(config: DataConfig) -> None:
    facts, (dataset, _) = datasets.dataset_info(config), datasets.load(config)
    for key in ("title", "classes", "train_examples", "test_examples", "image_size", "in_channels"):
        assert getattr(facts, key) == getattr(dataset, key)


def test_gzipped_and_plain_files_may_lie_beside_each_other(config: DataConfig, folder: Path, arrays: ByFile) -> None:
    (folder / TEST_LABELS).unlink()
    put(folder, {TEST_LABELS: arrays[TEST_LABELS]})
    datasets.load(config)


def test_of_a_plain_and_a_gzipped_file_it_is_the_plain_one(config: DataConfig, folder: Path) -> None:
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(b"damaged")
    datasets.load(config)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_may_have_channels(config: DataConfig, folder: Path, channels: int) -> None:
    for file, number in ((TRAIN_IMAGES, 30), (TEST_IMAGES, 10)):
        put(
            folder,
            {file: np.arange(number * channels * 16, dtype=np.uint8).reshape(number, channels, 4, 4)},
            packed=False,
        )
    dataset, loaded = datasets.load(config)
    assert (dataset.in_channels, loaded.train_images.shape) == (channels, (30, channels, 4, 4))


def test_images_may_be_enlarged_for_the_network(folder: Path, data_config: Callable[..., DataConfig]) -> None:
    datasets.dataset_info(data_config(name="folder", path=str(folder), image_size=28, resize=96))


def test_classes_are_called_by_their_numbers(config: DataConfig) -> None:
    assert datasets.dataset_info(config).classes == tuple("0123456789")


def test_a_class_need_not_have_images(config: DataConfig, folder: Path) -> None:
    """EMNIST's letters begin with 1."""
    put(folder, {TRAIN_LABELS: np.array([1, 3] * 15, np.uint8), TEST_LABELS: np.ones(10, np.uint8)}, packed=False)
    assert datasets.dataset_info(config).classes == tuple("0123")


@pytest.mark.parametrize("text", ["{}\n", "{}", "\n{}\r\n"[1:]])
def test_classes_are_called_as_a_file_says(config: DataConfig, folder: Path, text: str) -> None:
    names = ["T-shirt/top", "Größe", *map(str, range(10, 19))]
    newline = "\r\n" if "\r" in text else "\n"
    (folder / "classes.txt").write_bytes(text.format(newline.join(names)).encode())
    assert datasets.dataset_info(config).classes == tuple(names)


def test_names_may_have_joiners_and_a_byte_order_mark(config: DataConfig, folder: Path) -> None:
    names = ["\u0646\u0645\u06cc\u200c\u062e", "two\u00a0words", "cafe\u0301", *"defghij"]
    (folder / "classes.txt").write_bytes("\n".join(names).encode("utf-8-sig"))
    assert datasets.dataset_info(config).classes == (*names[:2], "caf\u00e9", *"defghij")


def test_two_classes_are_enough(config: DataConfig, folder: Path) -> None:
    put(folder, {TRAIN_LABELS: np.array([0, 1] * 15, np.uint8), TEST_LABELS: np.ones(10, np.uint8)}, packed=False)
    (folder / "classes.txt").write_text("cat\ndog\n")
    assert datasets.dataset_info(config).classes == ("cat", "dog")


def test_a_change_of_the_names_is_seen(config: DataConfig, folder: Path) -> None:
    for names in ("abcdefghij", "klmnopqrst"):
        (folder / "classes.txt").write_text("\n".join(names))
        assert datasets.load(config)[0].classes == tuple(names)


def test_a_second_load_reads_nothing_again(config: DataConfig) -> None:
    first, second = datasets.load(config)[1], datasets.load(config)[1]
    assert first.train_images is second.train_images


# What is wrong


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_told(config: DataConfig, folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert problem(config) == f"{folder / file} is missing, also as {file}.gz."


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "begins with nothing, not 00 00 08"),
    "text": (b"hello", "begins with 68 65 6c, not 00 00 08"),
    "floats": (b"\x00\x00\x0d\x01\x00\x00\x00\x1e" + bytes(120), "begins with 00 00 0d, not 00 00 08"),
    "no dimensions": (b"\x00\x00\x08\x00", "ends within its header"),
    "too short": (idx(np.zeros(30, np.uint8))[:-1], "has fewer bytes than the shape 30 takes"),
    "too long": (idx(np.zeros(30, np.uint8)) + b"x", "has more bytes than the shape 30 takes"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("packed", [True, False])
def test_a_file_of_labels_that_is_damaged_is_told(
    config: DataConfig, folder: Path, content: bytes, message: str, packed: bool
) -> None:
    path = folder / TRAIN_LABELS
    path.unlink()
    path = path.with_name(f"{path.name}.gz") if packed else path
    path.write_bytes(gzip.compress(content) if packed else content)
    assert problem(config).startswith(f"{path}: ")
    assert message in problem(config)


@pytest.mark.parametrize(
    "change", [lambda packed: packed[:-9], lambda packed: b"\x1f\x8b" + bytes(20), lambda packed: b"x"]
)
def test_a_gzipped_file_that_is_damaged_is_told(
    config: DataConfig, folder: Path, arrays: ByFile, change: Callable[[bytes], bytes]
) -> None:
    (folder / TRAIN_IMAGES).unlink()
    path = folder / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(change(gzip.compress(idx(arrays[TRAIN_IMAGES]))))
    assert problem(config).startswith(f"{path} is damaged or truncated (")


def test_images_that_end_too_soon_are_told_by_name(config: DataConfig, folder: Path) -> None:
    path = folder / TEST_IMAGES
    path.write_bytes(path.read_bytes()[:-1])
    assert problem(config) == f"{path}: A damaged IDX file: it has fewer bytes than the shape 10 x 4 x 4 takes."


@pytest.mark.timeout(20)
def test_a_header_that_promises_more_than_there_can_be_takes_no_memory(config: DataConfig, folder: Path) -> None:
    path = folder / TRAIN_IMAGES
    path.write_bytes(b"\x00\x00\x08\x03" + b"\x00\x00\x00\x1e" + b"\xff\xff\xff\xff" * 2)
    (folder / TEST_IMAGES).write_bytes(b"\x00\x00\x08\x03" + b"\x00\x00\x00\x0a" + b"\xff\xff\xff\xff" * 2)
    assert "has fewer bytes than the shape 30 x 4294967295 x 4294967295 takes" in problem(config)


def test_images_under_the_name_of_labels_are_told_by_their_shape(
    config: DataConfig, folder: Path, arrays: ByFile
) -> None:
    put(folder, {TRAIN_LABELS: arrays[TRAIN_IMAGES]}, packed=False)
    assert problem(config) == f"{folder / TRAIN_LABELS} should hold labels, and has the shape 30 x 4 x 4."


def test_labels_under_the_name_of_images_are_told_by_their_shape(
    config: DataConfig, folder: Path, arrays: ByFile
) -> None:
    put(folder, {TRAIN_IMAGES: arrays[TRAIN_LABELS]}, packed=False)
    assert problem(config) == f"{folder / TRAIN_IMAGES} should hold images, and has the shape 30."


def test_images_of_two_channels_are_told_by_their_shape(config: DataConfig, folder: Path) -> None:
    put(folder, {TRAIN_IMAGES: np.zeros((30, 2, 4, 4), np.uint8)}, packed=False)
    assert problem(config) == f"{folder / TRAIN_IMAGES} should hold images, and has the shape 30 x 2 x 4 x 4."


def test_labels_of_another_number_than_images_are_told(config: DataConfig, folder: Path) -> None:
    put(folder, {TEST_LABELS: np.arange(9, dtype=np.uint8)}, packed=False)
    assert problem(config) == f"{folder / TEST_LABELS} has 9 labels for the 10 images of {TEST_IMAGES}."


def test_no_images_are_told(config: DataConfig, folder: Path) -> None:
    put(folder, {TEST_IMAGES: np.zeros((0, 4, 4), np.uint8), TEST_LABELS: np.zeros(0, np.uint8)}, packed=False)
    assert problem(config) == f"{folder / TEST_IMAGES} holds no images."


def test_test_images_of_another_size_are_told(config: DataConfig, folder: Path) -> None:
    put(folder, {TEST_IMAGES: np.zeros((10, 5, 4), np.uint8)}, packed=False)
    assert problem(config) == f"{folder / TEST_IMAGES} has images of 5 x 4, {TRAIN_IMAGES} of 4 x 4."


def test_a_single_label_is_nothing_to_tell_apart(config: DataConfig, folder: Path) -> None:
    put(folder, {TRAIN_LABELS: np.full(30, 7, np.uint8)}, packed=False)
    assert problem(config) == f"{folder / TRAIN_LABELS} has a single label, 7: there is nothing to tell apart."


def test_a_label_without_a_name_is_told_with_its_place(config: DataConfig, folder: Path) -> None:
    (folder / "classes.txt").write_text("\n".join("abcdefghi"))
    labels = np.array([*range(9), *range(9), *range(9), 8, 9, 9], np.uint8)
    put(folder, {TRAIN_LABELS: labels}, packed=False)
    expected = f"{folder / TRAIN_LABELS} has the label 9 at image 29, and classes.txt names 9 classes, those of 0 to 8."
    assert problem(config) == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"one\n", b"a\nb\na\n", b"a\n\nb\n", b"a\nb\x1b[2J\n"],
    ids=["empty", "one", "twice", "gap", "escape"],
)
def test_names_that_do_not_tell_classes_apart_are_refused(config: DataConfig, folder: Path, content: bytes) -> None:
    (folder / "classes.txt").write_bytes(content)
    assert problem(config).startswith(f"{folder / 'classes.txt'} must have the name of a class on each line")


def test_names_that_are_no_text_are_told(config: DataConfig, folder: Path) -> None:
    (folder / "classes.txt").write_bytes(b"a\n\xff\n")
    assert problem(config).startswith(f"{folder / 'classes.txt'} cannot be read: ")


def test_all_problems_are_told_at_once(config: DataConfig, folder: Path) -> None:
    (folder / TRAIN_IMAGES).unlink()
    (folder / TEST_LABELS).write_bytes(b"x")
    told = problem(config).splitlines()
    assert [line.split()[0].rstrip(":") for line in told[1:]] == [
        str(folder / name) for name in (TRAIN_IMAGES, TEST_LABELS)
    ]


def test_channels_cannot_be_asked_for(folder: Path, data_config: Callable[..., DataConfig]) -> None:
    config = data_config(name="folder", path=str(folder), resize=4, channels=3)
    with pytest.raises(ConfigError, match=r"data\.channels=3 is for image files\. .* have images of 1 channels"):
        datasets.dataset_info(config)


def test_channels_that_are_there_may_be_asked_for(folder: Path, data_config: Callable[..., DataConfig]) -> None:
    datasets.dataset_info(data_config(name="folder", path=str(folder), resize=4, channels=1))
