"""data=folder: image and IDX files, what is known at once, what is measured, what is wrong."""

import dataclasses
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.data_mirrors import ByFile, make_arrays, write_files
from helpers.image_folders import fill, make_picture, put_images
from helpers.public_datasets import encode_idx
from PIL import Image

from cnnbench.config import DataConfig
from cnnbench.data import cache, datasets, images
from cnnbench.data.arrays import mean_and_std
from cnnbench.data.catalog import FILES, get
from cnnbench.data.device_data import ResidentData
from cnnbench.data.folder import dataset_error
from cnnbench.data.images import read_image
from cnnbench.data.scan_folder import FORMATS, list_images
from cnnbench.data.splits import check_sizes, num_held_out
from cnnbench.errors import ConfigError, DataError

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES
Make = Callable[..., DataConfig]
Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def of_folder(folder: Path, data_config: Make) -> Make:
    """Makes a configuration of data=folder, with images of 6 pixels unless told otherwise."""

    def make(**changes: object) -> DataConfig:
        values = {"name": "folder", "path": str(folder), "image_size": 6, "resize": 6}
        return data_config(**values | changes)

    return make


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    cache.clear()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was read, image by image."""
    paths: list[object] = []
    original = images._read
    record = lambda path, *more: paths.append(path) or original(path, *more)  # noqa: E731
    monkeypatch.setattr(images, "_read", record)
    return paths


# What is known without reading the images


def test_info_is_known_without_reading(folder: Path, of_folder: Make, read: list[object]) -> None:
    fill(folder, {"cats": 12, "dogs": 6})
    info = datasets.dataset_info(of_folder())
    assert (info.name, info.title, info.classes) == ("folder", "photos", ("cats", "dogs"))
    assert (info.train_examples, info.test_examples, info.in_channels) == (15, 3, 3)
    assert (info.image_size, info.split_here, info.path) == (6, True, str(folder))
    assert datasets.dataset_info(of_folder(image_size=None, resize=5)).image_size == 5
    assert read == []


@pytest.mark.parametrize(
    ("modes", "channels"),
    [(("L", "1"), 1), (("L", "RGB"), 3), (("RGB", "L"), 3)],
    ids=str,
)
@pytest.mark.parametrize("asked", [None, 1, 3])
def test_channels_are_as_asked_for_or_those_of_the_files(
    folder: Path, of_folder: Make, modes: tuple[str, str], channels: int, asked: int | None
) -> None:
    for name, mode in zip(("cats", "dogs"), modes, strict=True):
        put_images(folder, [f"{name}/{number}.png" for number in range(3)], mode)
    config = of_folder(channels=asked)
    info, (dataset, arrays) = datasets.dataset_info(config), datasets.load(config)
    found = {info.in_channels, dataset.in_channels, arrays.train_images.shape[1]}
    assert found == {asked or channels}


def test_images_are_never_enlarged(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    told = r"data\.resize=7 would enlarge .*image_size=6\. Set data\.image_size=7"
    with pytest.raises(ConfigError, match=told):
        datasets.dataset_info(of_folder(resize=7))


NO_SUCH_FOLDER = "there is no such folder in {here}. Name the folder of your images"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        *((path, f": {NO_SUCH_FOLDER}") for path in ("nowhere", "file", "~no-such-user/photos")),
        ("{here}/pipe", ": there is no such folder. Name the folder of your images"),
        ("{here}/" + "x" * 300, " cannot be read: File name too long"),
        ("{here}/closed", " cannot be read: Permission denied"),
    ],
)
def test_a_path_that_is_no_folder_or_cannot_be_opened_is_refused(
    of_folder: Make, path: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root may enter all folders, the system's answer is made up."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "closed").mkdir()
    stat = os.stat

    def refuse(path: str | Path, **options: Any) -> os.stat_result:
        if Path(path).parent.name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    path, reason = (text.format(here=tmp_path) for text in (path, reason))
    with pytest.raises(DataError, match=f"^data.path={path}{reason}"):
        datasets.dataset_info(of_folder(path=path))


@pytest.mark.parametrize("path", ["~/photos", "{folder}/../photos", "photos", "{folder}/"])
def test_a_path_may_be_written_in_any_way(
    folder: Path, of_folder: Make, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert datasets.dataset_info(of_folder(path=path.format(folder=folder))).title == "photos"


# Content


def test_images_and_labels_are_those_of_the_files(folder: Path, of_folder: Make) -> None:
    for part, number in (("train", 5), ("val", 3), ("test", 2)):
        fill(folder / part, dict.fromkeys(("cats", "cows", "dogs"), number))
    shutil.rmtree(folder / "val/cats")
    put_images(folder, ["train/dogs/a.jpg"])
    dataset, arrays = datasets.load(of_folder())
    listing = list_images(folder)
    for pixels, labels, parts in (
        (arrays.train_images, arrays.train_labels, (listing.train, listing.validation)),
        (arrays.test_images, arrays.test_labels, (listing.test,)),
    ):
        files = [
            (label, file.path)
            for part in parts
            for label, name in enumerate(dataset.classes)
            for file in part.get(name, [])
        ]
        assert labels.tolist() == [label for label, _ in files]
        assert np.array_equal(pixels, [read_image(Path(path), 3, 6) for _, path in files])
    assert arrays.num_validation == dataset.validation_examples == 6
    assert dataset.train_examples == 22


def test_there_may_be_more_classes_than_a_byte_tells_apart(folder: Path, of_folder: Make) -> None:
    fill(folder, {f"{number:03d}": 2 for number in range(257)}, "L")
    _, arrays = datasets.load(of_folder())
    assert arrays.train_labels.tolist() == arrays.test_labels.tolist() == list(range(257))
    shutil.rmtree(folder / "000")
    assert datasets.load(of_folder())[1].train_labels.dtype == np.uint8


def test_mean_and_std_are_those_of_the_training_images(folder: Path, of_folder: Make) -> None:
    for part in ("train", "val", "test"):
        fill(folder / part, {"cats": 9, "dogs": 7})
    dataset, arrays = datasets.load(of_folder())
    assert (dataset.mean, dataset.std) == mean_and_std(arrays.train_images[:16])


@pytest.mark.parametrize("shape", [(2500, 3, 4, 4), (2500, 1, 4, 4), (2500, 4, 4)], ids=str)
def test_mean_and_std_are_numpys(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    by_channel = (pixels[:, None] if len(shape) == 3 else pixels) / 255
    mean, std = mean_and_std(pixels)
    assert mean == pytest.approx(by_channel.mean(axis=(0, 2, 3)), abs=5.1e-5)
    assert std == pytest.approx(by_channel.std(axis=(0, 2, 3)), abs=5.1e-5)
    for value in (*mean, *std):
        assert (type(value), round(value, 4)) == (float, value)


@pytest.mark.parametrize(
    ("red", "mode"),
    [(0, "RGB"), (60, "RGB"), (0, "L")],
    ids=str,
)
def test_images_all_alike_are_refused(folder: Path, of_folder: Make, red: int, mode: str) -> None:
    for number, name in enumerate(("cats/1", "cats/2", "dogs/1", "dogs/2")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number * red, 0, 0)).convert(mode).save(folder / f"{name}.png")
    with pytest.raises(DataError, match=f"{folder} are of one and the same color"):
        datasets.load(of_folder())


@pytest.mark.parametrize("parts", [("",), ("train", "val", "test")])
def test_recorded_info_comes_back_with_digests_of_the_content(
    folder: Path, of_folder: Make, parts: tuple[str, ...]
) -> None:
    for part in parts:
        fill(folder / part, {"cats": 9, "dogs": 7})
    dataset, arrays = datasets.load(of_folder())
    for file, array in zip(FILES, arrays[:4], strict=True):
        assert dataset.sha256[file] == hashlib.sha256(encode_idx(array)).hexdigest()
    record = dataset.as_record()
    record |= {key: list(value) for key, value in record.items() if isinstance(value, tuple)}
    again = type(dataset).from_record(record)
    assert again == dataclasses.replace(dataset, split_here=False, notes=())


# Problems


def test_everything_that_is_wrong_is_reported_at_once(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 3, "dogs": 3})
    (folder / "cats/000.png").write_text("I am text")
    (folder / "dogs/001.png").write_bytes((folder / "dogs/001.png").read_bytes()[:-60])
    damaged = [
        f"  {folder}/cats/000.png is not a {FORMATS} image.",
        f"  {folder}/dogs/001.png cannot be read: image file is truncated.",
    ]
    datasets.dataset_info(of_folder())
    with pytest.raises(DataError) as told:
        datasets.load(of_folder())
    assert str(told.value).splitlines() == [f"There are 2 problems in {folder}:", *damaged]
    (folder / "cows").mkdir()
    for load in (datasets.dataset_info, datasets.load):
        with pytest.raises(DataError) as told:
            load(of_folder())
        assert str(told.value).splitlines() == [
            f"There are 3 problems in {folder}:",
            f"  {folder} has no {FORMATS} files for cows.",
            *damaged,
        ]


@pytest.mark.parametrize(("number", "num_lines"), [(1, 1), (2, 3), (10, 11), (11, 12), (1234, 12)])
def test_the_first_ten_of_many_problems_are_told(folder: Path, number: int, num_lines: int) -> None:
    problems = [f"problem {index}" for index in range(number)]
    lines = str(dataset_error(folder, problems * 2)).splitlines()
    assert len(lines) == num_lines
    if number > 1:
        assert lines[:2] == [f"There are {number:,} problems in {folder}:", "  problem 0"]
    if number > 10:
        assert lines[-1] == f"  and {number - 10:,} more"


# A validation set in files of its own


@pytest.fixture
def three_parts(folder: Path) -> Path:
    for part, number in (("train", 12), ("val", 4), ("test", 2)):
        for name in ("cats", "dogs"):
            put_images(folder, [f"{part}/{name}/{part}{index}.png" for index in range(number)])
    return folder


def parts_of(config: DataConfig, seed: int = 0) -> ResidentData:
    arrays = datasets.load(config)[1]
    return ResidentData.from_arrays(config, arrays, seed, torch.device("cpu"))


def pixels(paths: list[Path]) -> list[bytes]:
    return sorted(read_image(path, 3, 6).tobytes() for path in paths)


@pytest.mark.usefixtures("three_parts")
@pytest.mark.parametrize("validation", [0.1, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_parts_are_the_folders_whatever_the_seed(
    folder: Path, of_folder: Make, validation: float, seed: int
) -> None:
    config = of_folder(validation=validation)
    data = parts_of(config, seed)
    for part, name in ((data.train, "train"), (data.validation, "val"), (data.test, "test")):
        files = [*folder.glob(f"{name}/*/*.png")]
        assert sorted(image.numpy().tobytes() for image in part.images) == pixels(files)
    note = "Validation set: the 8 images of the validation folder; data.validation is not used."
    assert datasets.load(config)[0].notes == (note,)
    assert check_sizes(config, datasets.dataset_info(config)) == len(data.train)
    assert num_held_out(config, datasets.dataset_info(config)) == len(data.validation)


@pytest.mark.usefixtures("three_parts")
def test_without_validation_the_folder_of_it_is_not_used(of_folder: Make) -> None:
    config = of_folder(validation=0)
    data, info = parts_of(config), datasets.dataset_info(config)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [24, 0, 4]
    assert (check_sizes(config, info), num_held_out(config, info), info.notes) == (24, 0, ())


@pytest.mark.usefixtures("three_parts")
def test_folds_are_of_train_and_val_together(folder: Path, of_folder: Make) -> None:
    parts = [parts_of(of_folder(folds=4, fold=fold)).validation for fold in range(4)]
    images = [image.numpy().tobytes() for part in parts for image in part.images]
    assert sorted(images) == pixels([*folder.glob("train/*/*.png"), *folder.glob("val/*/*.png")])
    assert datasets.dataset_info(of_folder(folds=4, fold=0)).notes == ()


@pytest.mark.usefixtures("three_parts")
def test_fewer_training_examples_leave_val_as_it_is(of_folder: Make) -> None:
    data = parts_of(of_folder(train_examples=9))
    assert [len(part) for part in (data.train, data.validation)] == [9, 8]
    told = r"data\.train_examples=25: photos has 24 training examples\."
    with pytest.raises(ConfigError, match=told):
        check_sizes(of_folder(train_examples=25), datasets.dataset_info(of_folder()))


# Notes


def test_images_named_for_another_format_are_noted(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 4, "dogs": 4})
    for name in ("cats/000.png", "dogs/002.png"):
        make_picture(1 + ord(name[0])).save(folder / name, "WEBP")
    assert datasets.load(of_folder())[0].notes[1] == (
        f"Named for another format: 2 images, such as {folder}/cats/000.png, which is WEBP."
    )


def test_test_images_that_are_trained_on_are_noted(folder: Path, of_folder: Make) -> None:
    fill(folder / "train", {"cats": 4, "dogs": 4})
    put_images(folder, [f"test/{name}/{i}.png" for name in ("cats", "dogs") for i in range(3)])
    assert datasets.load(of_folder())[0].notes == ()
    shutil.copy(folder / "train/cats/000.png", folder / "test/cats/copy.png")
    (note,) = datasets.load(of_folder())[0].notes
    assert note == "1 of the 7 test images are also among the training images."


@pytest.mark.parametrize(("number", "is_large"), [(8, False), (10, True)])
def test_a_large_class_is_noted(folder: Path, of_folder: Make, number: int, is_large: bool) -> None:
    fill(folder / "train", {"cats": number, "cows": 4, "dogs": 4})
    put_images(folder, [f"test/{name}/1.png" for name in ("cats", "cows", "dogs")])
    note = "56% of the training images are of class cats; an even share is 33%."
    assert (note in datasets.load(of_folder())[0].notes) == is_large


# Kept for the next job


def test_a_second_load_reads_nothing(
    folder: Path, of_folder: Make, read: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    first = datasets.load(of_folder())
    monkeypatch.setattr(images, "GRAY_MODES", None)  # asked for where a header is looked at
    second = datasets.load(of_folder(validation=3))
    assert (len(read), second[0]) == (16, first[0])
    assert all(one is other for one, other in zip(first[1], second[1], strict=True))
    with pytest.raises(ValueError, match="read-only"):
        second[1].train_images[0] = 0


@pytest.mark.parametrize("changes", [{"image_size": 7}, {"channels": 1}], ids=str)
def test_images_read_in_another_way_are_read_again(
    folder: Path, of_folder: Make, read: list[object], changes: dict[str, int]
) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    datasets.load(of_folder())
    datasets.load(of_folder(**changes))
    assert len(read) == 32


CHANGES: dict[str, Change] = {
    "another content": lambda path: shutil.copy(path / "cats/001.png", path / "cats/000.png"),
    "one more": lambda path: shutil.copy(path / "cats/000.png", path / "cats/new.png"),
    "one less": lambda path: (path / "cats/000.png").unlink(),
    "another class": lambda path: (path / "cats/000.png").rename(path / "dogs/new.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_files_are_read_again(folder: Path, of_folder: Make, change: Change) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    before, _ = datasets.load(of_folder())
    change(folder)
    after, _ = datasets.load(of_folder())
    assert before.sha256 != after.sha256


# IDX files


@pytest.fixture
def arrays(folder: Path) -> ByFile:
    """30 and 10 images of 4 x 4 pixels in ten classes, in IDX files in the folder."""
    arrays = make_arrays(0) | {TEST_LABELS: np.arange(10, dtype=np.uint8)}
    write_files(folder, arrays, packed=False)
    return arrays


@pytest.mark.parametrize("packed", FILES)
def test_idx_files_plain_or_gzipped_are_read_as_they_are(
    of_folder: Make, folder: Path, arrays: ByFile, packed: str
) -> None:
    (folder / packed).unlink()
    write_files(folder, {packed: arrays[packed]})
    other = TRAIN_IMAGES if packed == TRAIN_LABELS else TRAIN_LABELS
    (folder / f"{other}.gz").write_bytes(b"not used, as there is a plain file")
    info = datasets.dataset_info(of_folder())
    dataset, loaded = datasets.load(of_folder(resize=96))
    for array, file in zip(loaded[:4], FILES, strict=True):
        assert np.array_equal(array, arrays[file])
    for each in (info, dataset):
        assert (each.train_examples, each.test_examples, each.image_size) == (30, 10, 4)
        assert (each.in_channels, each.classes) == (1, tuple("0123456789"))
        assert (each.title, each.split_here) == ("photos", False)
    assert datasets.load(of_folder())[1].train_images is loaded.train_images


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("channels", [1, 3])
def test_idx_images_may_have_channels(of_folder: Make, folder: Path, channels: int) -> None:
    for file, number in ((TRAIN_IMAGES, 30), (TEST_IMAGES, 10)):
        array = np.arange(number * channels * 20, dtype=np.uint16).astype(np.uint8)
        write_files(folder, {file: array.reshape(number, channels, 4, 5)}, packed=False)
    dataset, loaded = datasets.load(of_folder(channels=channels))
    assert (dataset.in_channels, dataset.image_size) == (channels, 5)
    assert loaded.train_images.shape == (30, channels, 4, 5)
    told = rf"data\.channels={4 - channels} is for image files\. .* have images of {channels} chan"
    with pytest.raises(ConfigError, match=told):
        datasets.dataset_info(of_folder(channels=4 - channels))


def test_an_idx_class_need_not_have_images(of_folder: Make, folder: Path, arrays: ByFile) -> None:
    """EMNIST's letters begin with 1."""
    labels = {TRAIN_LABELS: np.array([1, 3] * 15, np.uint8), TEST_LABELS: np.ones(10, np.uint8)}
    write_files(folder, labels, packed=False)
    assert datasets.dataset_info(of_folder()).classes == tuple("0123")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("start", "end"), [("", ""), ("", "\n"), ("\ufeff", "\n\n")])
def test_idx_classes_are_called_as_a_file_says(
    of_folder: Make, folder: Path, arrays: ByFile, newline: str, start: str, end: str
) -> None:
    names = ["T-shirt/top", "\u0646\u0645\u06cc\u200c\u062e", "two\u00a0words", "cafe\u0301"]
    names += map(str, range(10, 17))
    text = start + newline.join(names) + end.replace("\n", newline)
    (folder / "classes.txt").write_bytes(text.encode())
    assert datasets.load(of_folder())[0].classes == (*names[:3], "caf\u00e9", *names[4:])
    (folder / "classes.txt").write_text("\n".join("abcdefghij"))
    assert datasets.load(of_folder())[0].classes == tuple("abcdefghij")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        *((content, "must have the name of a class on each line") for content in (b"", b"one\n")),
        (b"a\nb\na\nc\nd\ne\nf\ng\nh\ni\nj\n", "each another one"),
        (b"a\n\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", "must have the name of a class on each line"),
        (b"a\nb\x1b[2J\nc\nd\ne\nf\ng\nh\ni\nj\nk", "must have the name of a class on each line"),
        (b"a\nb\nc\nd\ne\nf\ng\nh\ni", "at least 10 for labels up to 9"),
        (b"a\n\xff\n", "cannot be read: "),
    ],
    ids=["empty", "one", "twice", "gap", "escape", "a label without a name", "no text"],
)
def test_names_that_do_not_tell_idx_classes_apart_are_refused(
    of_folder: Make, folder: Path, arrays: ByFile, content: bytes, told: str
) -> None:
    (folder / "classes.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"^{folder}/classes\.txt .*{told}"):
        datasets.dataset_info(of_folder())


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


@pytest.mark.parametrize(("file", "array", "told"), WRONG_SHAPES.values(), ids=WRONG_SHAPES.keys())
def test_idx_files_that_do_not_go_together_are_refused(
    of_folder: Make, folder: Path, arrays: ByFile, file: str, array: np.ndarray, told: str
) -> None:
    write_files(folder, {file: np.ascontiguousarray(array)}, packed=False)
    with pytest.raises(DataError, match=f"^{folder / file} .*{told}"):
        datasets.dataset_info(of_folder())


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("file", FILES)
def test_a_missing_or_damaged_idx_file_is_refused(of_folder: Make, folder: Path, file: str) -> None:
    path = folder / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"^{path} is a damaged IDX file"):
        datasets.load(of_folder())
    path.unlink()
    with pytest.raises(DataError, match=f"^{path} cannot be read: No such file"):
        datasets.dataset_info(of_folder())


def test_a_folder_of_the_samples_files_is_it(folder: Path, of_folder: Make, sample: ByFile) -> None:
    write_files(folder, sample)
    dataset, arrays = datasets.load(of_folder())
    known = get("sample")
    for file, array in zip(FILES, arrays[:4], strict=True):
        assert np.array_equal(array, sample[file])
    assert (dataset.sha256, dataset.in_channels) == (known.sha256, known.in_channels)
    sizes = (dataset.train_examples, dataset.test_examples, dataset.image_size)
    assert sizes == (5000, 1000, 28)
