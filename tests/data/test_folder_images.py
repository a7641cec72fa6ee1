"""Folder datasets of image files: facts, content, problems, notes and the cache."""

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
from helpers.image_folders import fill, make_picture, put_images
from helpers.public_datasets import encode_idx
from PIL import Image

from cnnbench.config import DataConfig
from cnnbench.data import datasets, images
from cnnbench.data.arrays import measure_mean_and_std
from cnnbench.data.catalog import FILES
from cnnbench.data.folder import dataset_error
from cnnbench.data.images import read_image
from cnnbench.data.scan_folder import FORMATS, list_images
from cnnbench.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("empty_cache")

Make = Callable[..., DataConfig]
Change = Callable[[Path], object]


@pytest.fixture
def read_paths(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Record the paths of the images that are read."""
    paths: list[object] = []
    read = images._read

    def record(path: str | Path, *more: Any) -> object:
        paths.append(path)
        return read(path, *more)

    monkeypatch.setattr(images, "_read", record)
    return paths


# Facts known without reading the images


def test_dataset_info_reads_no_images(
    folder: Path, folder_config: Make, read_paths: list[object]
) -> None:
    fill(folder, {"cats": 12, "dogs": 6})
    info = datasets.dataset_info(folder_config())
    assert (info.name, info.title, info.classes) == ("folder", "photos", ("cats", "dogs"))
    assert (info.train_examples, info.test_examples, info.in_channels) == (15, 3, 3)
    assert (info.image_size, info.split_here, info.path) == (6, True, str(folder))
    assert datasets.dataset_info(folder_config(image_size=None, resize=5)).image_size == 5
    assert read_paths == []


@pytest.mark.parametrize(
    ("modes", "channels"),
    [(("L", "1"), 1), (("L", "RGB"), 3), (("RGB", "L"), 3)],
    ids=str,
)
@pytest.mark.parametrize("configured", [None, 1, 3])
def test_channels_are_those_of_the_configuration_or_the_files(
    folder: Path, folder_config: Make, modes: tuple[str, str], channels: int, configured: int | None
) -> None:
    for name, mode in zip(("cats", "dogs"), modes, strict=True):
        put_images(folder, [f"{name}/{number}.png" for number in range(3)], mode)
    config = folder_config(channels=configured)
    info, (dataset, arrays) = datasets.dataset_info(config), datasets.load_dataset(config)
    found = {info.in_channels, dataset.in_channels, arrays.train_images.shape[1]}
    assert found == {configured or channels}


def test_resize_larger_than_image_size_is_refused(folder: Path, folder_config: Make) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    message = r"data\.resize=7 would enlarge .*image_size=6\. Set data\.image_size=7"
    with pytest.raises(ConfigError, match=message):
        datasets.dataset_info(folder_config(resize=7))


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
def test_path_that_is_not_a_readable_folder_is_refused(
    folder_config: Make, path: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate the system's errors, because root may enter all folders."""
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
        datasets.dataset_info(folder_config(path=path))


@pytest.mark.parametrize("path", ["~/photos", "{folder}/../photos", "photos", "{folder}/"])
def test_path_may_be_relative_or_begin_with_tilde(
    folder: Path, folder_config: Make, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = folder_config(path=path.format(folder=folder))
    assert datasets.dataset_info(config).title == "photos"


# Content


def test_loaded_images_and_labels_are_those_of_the_files(folder: Path, folder_config: Make) -> None:
    for part, number in (("train", 5), ("val", 3), ("test", 2)):
        fill(folder / part, dict.fromkeys(("cats", "cows", "dogs"), number))
    shutil.rmtree(folder / "val/cats")
    put_images(folder, ["train/dogs/a.jpg"])
    dataset, arrays = datasets.load_dataset(folder_config())
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


def test_more_than_256_classes_have_larger_labels(folder: Path, folder_config: Make) -> None:
    fill(folder, {f"{number:03d}": 2 for number in range(257)}, "L")
    _, arrays = datasets.load_dataset(folder_config())
    assert arrays.train_labels.tolist() == arrays.test_labels.tolist() == list(range(257))
    shutil.rmtree(folder / "000")
    assert datasets.load_dataset(folder_config())[1].train_labels.dtype == np.uint8


def test_mean_and_std_are_measured_on_the_training_images(
    folder: Path, folder_config: Make
) -> None:
    for part in ("train", "val", "test"):
        fill(folder / part, {"cats": 9, "dogs": 7})
    dataset, arrays = datasets.load_dataset(folder_config())
    assert (dataset.mean, dataset.std) == measure_mean_and_std(arrays.train_images[:16])


@pytest.mark.parametrize(
    ("red", "mode"),
    [(0, "RGB"), (60, "RGB"), (0, "L")],
    ids=str,
)
def test_images_of_one_color_are_refused(
    folder: Path, folder_config: Make, red: int, mode: str
) -> None:
    for number, name in enumerate(("cats/1", "cats/2", "dogs/1", "dogs/2")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number * red, 0, 0)).convert(mode).save(folder / f"{name}.png")
    with pytest.raises(DataError, match=f"All training images in {folder} have one color"):
        datasets.load_dataset(folder_config())


@pytest.mark.parametrize("parts", [("",), ("train", "val", "test")])
def test_record_has_digests_of_the_content_and_is_read_back(
    folder: Path, folder_config: Make, parts: tuple[str, ...]
) -> None:
    for part in parts:
        fill(folder / part, {"cats": 9, "dogs": 7})
    dataset, arrays = datasets.load_dataset(folder_config())
    for file, array in zip(FILES, arrays[:4], strict=True):
        assert dataset.sha256[file] == hashlib.sha256(encode_idx(array)).hexdigest()
    record = dataset.as_record()
    record |= {key: list(value) for key, value in record.items() if isinstance(value, tuple)}
    restored = type(dataset).from_record(record)
    assert restored == dataclasses.replace(dataset, split_here=False, notes=())


# Problems


def test_all_problems_are_reported_together(folder: Path, folder_config: Make) -> None:
    fill(folder, {"cats": 3, "dogs": 3})
    (folder / "cats/000.png").write_text("I am text")
    (folder / "dogs/001.png").write_bytes((folder / "dogs/001.png").read_bytes()[:-60])
    damaged = [
        f"  {folder}/cats/000.png is not a {FORMATS} image.",
        f"  {folder}/dogs/001.png cannot be read: image file is truncated.",
    ]
    datasets.dataset_info(folder_config())
    with pytest.raises(DataError) as caught:
        datasets.load_dataset(folder_config())
    assert str(caught.value).splitlines() == [
        f"There are 2 problems in {folder}:",
        *damaged,
        "data.skip_unreadable=true leaves out what cannot be read.",
    ]
    (folder / "cows").mkdir()
    for load in (datasets.dataset_info, datasets.load_dataset):
        with pytest.raises(DataError) as caught:
            load(folder_config())
        assert str(caught.value).splitlines() == [
            f"There are 3 problems in {folder}:",
            f"  {folder} has no {FORMATS} files for cows.",
            *damaged,
            "data.skip_unreadable=true leaves out what cannot be read.",
        ]


@pytest.mark.parametrize(("number", "num_lines"), [(1, 1), (2, 3), (10, 11), (11, 12), (1234, 12)])
def test_error_lists_the_first_ten_problems(folder: Path, number: int, num_lines: int) -> None:
    problems = [f"problem {index}" for index in range(number)]
    lines = str(dataset_error(folder, problems * 2)).splitlines()
    assert len(lines) == num_lines
    if number > 1:
        assert lines[:2] == [f"There are {number:,} problems in {folder}:", "  problem 0"]
    if number > 10:
        assert lines[-1] == f"  and {number - 10:,} more"


# Notes


def test_note_on_images_named_for_another_format(folder: Path, folder_config: Make) -> None:
    fill(folder, {"cats": 4, "dogs": 4})
    for name in ("cats/000.png", "dogs/002.png"):
        make_picture(1 + ord(name[0])).save(folder / name, "WEBP")
    assert datasets.load_dataset(folder_config())[0].notes[1] == (
        f"Named for another format: 2 images, such as {folder}/cats/000.png, which is WEBP."
    )


def test_note_on_test_images_that_are_also_training_images(
    folder: Path, folder_config: Make
) -> None:
    fill(folder / "train", {"cats": 4, "dogs": 4})
    put_images(folder, [f"test/{name}/{i}.png" for name in ("cats", "dogs") for i in range(3)])
    assert datasets.load_dataset(folder_config())[0].notes == ()
    shutil.copy(folder / "train/cats/000.png", folder / "test/cats/copy.png")
    (note,) = datasets.load_dataset(folder_config())[0].notes
    assert note == (
        "1 of the 7 test images are also among the training images, "
        "such as test/cats/copy.png = train/cats/000.png."
    )


@pytest.mark.parametrize(("number", "is_large"), [(8, False), (10, True)])
def test_note_on_a_large_class(
    folder: Path, folder_config: Make, number: int, is_large: bool
) -> None:
    fill(folder / "train", {"cats": number, "cows": 4, "dogs": 4})
    put_images(folder, [f"test/{name}/1.png" for name in ("cats", "cows", "dogs")])
    note = "56% of the training images are of class cats; an even share is 33%."
    assert (note in datasets.load_dataset(folder_config())[0].notes) == is_large


# Cache


def test_second_load_reads_no_images(
    folder: Path, folder_config: Make, read_paths: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    first = datasets.load_dataset(folder_config())
    monkeypatch.setattr(images, "GRAY_MODES", None)  # reading a header would fail
    second = datasets.load_dataset(folder_config(validation=3))
    assert (len(read_paths), second[0]) == (16, first[0])
    for array, cached in zip(first[1], second[1], strict=True):
        assert array is cached
    with pytest.raises(ValueError, match="read-only"):
        second[1].train_images[0] = 0


@pytest.mark.parametrize("changes", [{"image_size": 7}, {"channels": 1}], ids=str)
def test_images_are_read_again_for_another_size_or_channels(
    folder: Path, folder_config: Make, read_paths: list[object], changes: dict[str, int]
) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    datasets.load_dataset(folder_config())
    datasets.load_dataset(folder_config(**changes))
    assert len(read_paths) == 32


CHANGES: dict[str, Change] = {
    "another content": lambda path: shutil.copy(path / "cats/001.png", path / "cats/000.png"),
    "one more": lambda path: shutil.copy(path / "cats/000.png", path / "cats/new.png"),
    "one less": lambda path: (path / "cats/000.png").unlink(),
    "another class": lambda path: (path / "cats/000.png").rename(path / "dogs/new.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_images_are_read_again_if_files_change(
    folder: Path, folder_config: Make, change: Change
) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    before, _ = datasets.load_dataset(folder_config())
    change(folder)
    after, _ = datasets.load_dataset(folder_config())
    assert before.sha256 != after.sha256
