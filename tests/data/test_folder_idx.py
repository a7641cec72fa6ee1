"""Folder datasets of IDX files: content, class names and errors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.data_mirrors import ByFile, make_arrays, write_files

from cnnbench.config import DataConfig
from cnnbench.data import datasets
from cnnbench.data.catalog import FILES, get
from cnnbench.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("empty_cache")

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES
Make = Callable[..., DataConfig]


@pytest.fixture
def arrays(folder: Path) -> ByFile:
    """Put 30 and 10 images of 4 x 4 pixels in ten classes into the folder, as IDX files."""
    arrays = make_arrays(0) | {TEST_LABELS: np.arange(10, dtype=np.uint8)}
    write_files(folder, arrays, packed=False)
    return arrays


@pytest.mark.parametrize("packed", FILES)
def test_idx_files_are_read_plain_or_gzipped(
    folder_config: Make, folder: Path, arrays: ByFile, packed: str
) -> None:
    (folder / packed).unlink()
    write_files(folder, {packed: arrays[packed]})
    other = TRAIN_IMAGES if packed == TRAIN_LABELS else TRAIN_LABELS
    (folder / f"{other}.gz").write_bytes(b"not used, because there is a plain file")
    info = datasets.dataset_info(folder_config())
    dataset, loaded = datasets.load_dataset(folder_config(resize=96))
    for array, file in zip(loaded[:4], FILES, strict=True):
        assert np.array_equal(array, arrays[file])
    for facts in (info, dataset):
        assert (facts.train_examples, facts.test_examples, facts.image_size) == (30, 10, 4)
        assert (facts.in_channels, facts.classes) == (1, tuple("0123456789"))
        assert (facts.title, facts.split_here) == ("photos", False)
    assert datasets.load_dataset(folder_config())[1].train_images is loaded.train_images


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("channels", [1, 3])
def test_idx_images_may_have_channels(folder_config: Make, folder: Path, channels: int) -> None:
    for file, number in ((TRAIN_IMAGES, 30), (TEST_IMAGES, 10)):
        array = np.arange(number * channels * 20, dtype=np.uint16).astype(np.uint8)
        write_files(folder, {file: array.reshape(number, channels, 4, 5)}, packed=False)
    dataset, loaded = datasets.load_dataset(folder_config(channels=channels))
    assert (dataset.in_channels, dataset.image_size) == (channels, 5)
    assert loaded.train_images.shape == (30, channels, 4, 5)
    message = (
        rf"data\.channels={4 - channels} is for image files\. .* have images of {channels} chan"
    )
    with pytest.raises(ConfigError, match=message):
        datasets.dataset_info(folder_config(channels=4 - channels))


def test_idx_classes_without_images_are_kept(
    folder_config: Make, folder: Path, arrays: ByFile
) -> None:
    """Use labels that skip numbers; for example, EMNIST's letters begin with 1."""
    labels = {TRAIN_LABELS: np.array([1, 3] * 15, np.uint8), TEST_LABELS: np.ones(10, np.uint8)}
    write_files(folder, labels, packed=False)
    assert datasets.dataset_info(folder_config()).classes == tuple("0123")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("start", "end"), [("", ""), ("", "\n"), ("\ufeff", "\n\n")])
def test_idx_class_names_are_read_from_classes_txt(
    folder_config: Make, folder: Path, arrays: ByFile, newline: str, start: str, end: str
) -> None:
    names = ["T-shirt/top", "\u0646\u0645\u06cc\u200c\u062e", "two\u00a0words", "cafe\u0301"]
    names += map(str, range(10, 17))
    text = start + newline.join(names) + end.replace("\n", newline)
    (folder / "classes.txt").write_bytes(text.encode())
    assert datasets.load_dataset(folder_config())[0].classes == (
        *names[:3],
        "caf\u00e9",
        *names[4:],
    )
    (folder / "classes.txt").write_text("\n".join("abcdefghij"))
    assert datasets.load_dataset(folder_config())[0].classes == tuple("abcdefghij")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((content, "must have the name of a class on each line") for content in (b"", b"one\n")),
        (b"a\nb\na\nc\nd\ne\nf\ng\nh\ni\nj\n", "all different"),
        (b"a\n\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", "must have the name of a class on each line"),
        (b"a\nb\x1b[2J\nc\nd\ne\nf\ng\nh\ni\nj\nk", "must have the name of a class on each line"),
        (b"a\nb\nc\nd\ne\nf\ng\nh\ni", "at least 10 for labels up to 9"),
        (b"a\n\xff\n", "cannot be read: "),
    ],
    ids=["empty", "one", "twice", "gap", "escape", "a label without a name", "not text"],
)
def test_invalid_classes_txt_is_refused(
    folder_config: Make, folder: Path, arrays: ByFile, content: bytes, message: str
) -> None:
    (folder / "classes.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"^{folder}/classes\.txt .*{message}"):
        datasets.dataset_info(folder_config())


ZEROS = np.zeros((30, 5, 4, 2), np.uint8)
WRONG_SHAPES = {
    "labels as images": (TRAIN_IMAGES, ZEROS[:, 0, 0, 0], "should hold images; its shape is 30."),
    "two channels": (TRAIN_IMAGES, ZEROS[:, :2], "hold images; its shape is 30 x 2 x 4 x 2."),
    "no images": (TEST_IMAGES, ZEROS[:0, 0], "should hold images; its shape is 0 x 4 x 2."),
    "no pixels": (TEST_IMAGES, ZEROS[:10, :0, 0], "should hold images; its shape is 10 x 0 x 2."),
    "images as labels": (TEST_LABELS, ZEROS[:10, 0], "10 labels, .*; its shape is 10 x 4 x 2."),
    "too few labels": (TRAIN_LABELS, ZEROS[:29, 0, 0, 0], "hold 30 labels, .*; its shape is 29."),
    "sizes": (TEST_IMAGES, ZEROS[:10, :, :, 0], f"has images of 5 x 4, {TRAIN_IMAGES} of 4 x 4."),
    "a single label": (TRAIN_LABELS, ZEROS[:, 0, 0, 0] + 7, "has a single label, 7"),
}


@pytest.mark.parametrize(
    ("file", "array", "message"), WRONG_SHAPES.values(), ids=WRONG_SHAPES.keys()
)
def test_idx_files_of_inconsistent_shapes_are_refused(
    folder_config: Make, folder: Path, arrays: ByFile, file: str, array: np.ndarray, message: str
) -> None:
    write_files(folder, {file: np.ascontiguousarray(array)}, packed=False)
    with pytest.raises(DataError, match=f"^{folder / file} .*{message}"):
        datasets.dataset_info(folder_config())


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("file", FILES)
def test_missing_or_damaged_idx_file_is_refused(
    folder_config: Make, folder: Path, file: str
) -> None:
    path = folder / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"^{path} is a damaged IDX file"):
        datasets.load_dataset(folder_config())
    path.unlink()
    with pytest.raises(DataError, match=f"^{path} cannot be read: No such file"):
        datasets.dataset_info(folder_config())


def test_idx_files_of_the_sample_have_its_facts(
    folder: Path, folder_config: Make, sample: ByFile
) -> None:
    write_files(folder, sample)
    dataset, arrays = datasets.load_dataset(folder_config())
    known = get("sample")
    for file, array in zip(FILES, arrays[:4], strict=True):
        assert np.array_equal(array, sample[file])
    assert (dataset.sha256, dataset.in_channels) == (known.sha256, known.in_channels)
    sizes = (dataset.train_examples, dataset.test_examples, dataset.image_size)
    assert sizes == (5000, 1000, 28)
