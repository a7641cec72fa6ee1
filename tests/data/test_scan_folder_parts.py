"""Scan of a folder dataset: training, validation and test part."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.folder_listings import (
    COMPOSED,
    DECOMPOSED,
    list_all_names,
    list_names,
    list_problems,
    list_top_folders,
)
from helpers.image_folders import fill, put_images

from cnnbench.data.scan_folder import find_test_folder, list_images
from cnnbench.errors import format_count

Names = tuple[str, ...]
CLASSES = {"cats": 2, "dogs": 2}


# Parts


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *(("train", "test"), ("training", "testing"), ("Training", "Testing"), ("TRAIN", "TEST")),
        *(("train", "Testing"), ("train_set", "test_set"), ("training_set", "test_set")),
        *(("trainset", "testset"), ("TrainSet", "TestSet"), ("traindata", "testdata")),
        *(("seg_train", "seg_test"), ("data-train", "data-test"), ("trainimages", "testimgs")),
        *(("trainval", "test"), ("trn", "tst"), ("trainimage", "testimg")),
        *(("train2017", "test2017"), ("fruits_train", "test"), ("xTrain", "xTest")),
        *(("seg_train/seg_train", "seg_test/seg_test"),),
    ],
)
@pytest.mark.parametrize("beside", [(), ("papers/1.png", "testing-multiple/1.png", "labels.csv")])
def test_parts_are_recognized_by_their_names(
    folder: Path, train: str, test: str, beside: Names
) -> None:
    fill(folder / train, {"cats": 3, "dogs": 2})
    fill(folder / test, {"cats": 1, "dogs": 2})
    for name in beside:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    listing = list_images(folder)
    expected = [{train.split("/")[0]}, set(), {test.split("/")[0]}]
    assert (list(listing.train), list_top_folders(folder)) == (["cats", "dogs"], expected)
    assert (listing.split_here, listing.problems) == (False, [])
    assert find_test_folder(folder) == folder / test


@pytest.mark.parametrize(
    "name",
    [
        *("val", "valid", "validation", "dev", "eval", "evaluation"),
        *("Validation", "val2017", "valid_set", "VAL"),
    ],
)
def test_validation_part_is_recognized_by_its_name(folder: Path, name: str) -> None:
    for part in ("train", name, "test"):
        fill(folder / part, CLASSES)
    assert list_top_folders(folder) == [{"train"}, {name}, {"test"}]


@pytest.mark.parametrize("others", [(), ("val",)])
def test_without_a_test_part_a_sixth_of_train_is_split_off(folder: Path, others: Names) -> None:
    for part in ("train", *others):
        fill(folder / part, {"cats": 12, "dogs": 6})
    listing = list_images(folder)
    sizes = [sum(map(len, part.values())) for part in listing[:3]]
    assert (sizes, listing.split_here) == ([15, 18 * len(others), 3], True)
    assert list_top_folders(folder)[2] == {"train"}
    assert listing.test == list_images(folder / "train").test


@pytest.mark.parametrize(
    "images",
    [
        *(("bus/1", "car/1", "train/1"), ("resting/1", "training/1")),
        *(("port/1", "train_station/1"),),
        *(("bus/1", "train/1", "train/steam/1"), ("port/1", "train_station/in/1")),
        *(("test_strips/in/1", "test_tubes/in/1"), ("control/left/1", "test/left/1")),
        *(("cats/1", "test/cats/1"),),
    ],
    ids=" ".join,
)
def test_class_may_be_named_like_a_part(folder: Path, images: Names) -> None:
    put_images(folder, [f"{image}.png" for image in images])
    classes = sorted({image.split("/")[0] for image in images})
    assert (list(list_images(folder).train), find_test_folder(folder)) == (classes, None)


NOT_PARTS = {
    "images in train and test themselves": ("train/1", "test/1"),
    "no train": ("test/cats/1", "Val/cats/1", "test/dogs/1", "Val/dogs/1"),
    "train alone": ("train/cats/1", "train/dogs/1", "other/cats/1"),
    "test beside its classes": ("cats/1", "dogs/1", "test/cats/1", "test/dogs/1"),
}


@pytest.mark.parametrize("images", NOT_PARTS.values(), ids=NOT_PARTS.keys())
def test_incomplete_parts_are_refused_with_advice(folder: Path, images: Names) -> None:
    put_images(folder, [f"{image}.png" for image in images])
    (problem,) = list_problems(folder)
    assert "but not train/ and test/ or val/, each with a folder for each class" in problem
    assert "data.path=" in problem


def test_two_folders_for_one_part_are_refused(folder: Path) -> None:
    for part in ("train", "val", "valid"):
        fill(folder / part, CLASSES)
    assert list_problems(folder) == [
        f"{folder} has train, val, valid, two for one part. Rename one."
    ]
    assert find_test_folder(folder) is None


# The test part that is split off


@pytest.mark.parametrize(
    ("number", "num_test"),
    [(1, 0), (2, 1), (6, 1), (8, 1), (9, 2), (12, 2), (60, 10)],
)
def test_a_sixth_of_each_class_is_split_off(folder: Path, number: int, num_test: int) -> None:
    listing = list_images(fill(folder, {"cats": number, "dogs": 6}))
    sizes = [[len(files) for files in part.values()] for part in (listing.train, listing.test)]
    assert (sizes, listing.split_here) == ([[number - num_test, 5], [num_test, 1]], True)
    assert len(set(list_all_names(folder))) == number + 6
    images = format_count(num_test + 1, "image")
    note = f"Set apart for testing: {images}, a sixth of each class, the same with any seed."
    assert listing.notes[0] == note


def test_split_is_that_of_earlier_versions(folder: Path) -> None:
    test = list_images(fill(folder, {"cats": 20, "dogs": 20})).test
    assert list_names(test, folder) == [
        *("cats/002.png", "cats/008.png", "cats/016.png"),
        *("dogs/009.png", "dogs/011.png", "dogs/016.png"),
    ]


def test_listing_does_not_depend_on_the_order_of_the_file_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"cats": 20, "dogs": 20, COMPOSED: 4, DECOMPOSED: 4})
    expected = list_images(folder)
    walk, generator = os.walk, random.Random(1)

    def shuffle(*args: Any, **options: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, folders, files in walk(*args, **options):
            generator.shuffle(folders)
            generator.shuffle(files)
            yield place, folders, files

    monkeypatch.setattr(os, "walk", shuffle)
    for _ in range(4):
        assert list_images(folder) == expected


def test_split_is_the_same_after_a_move_and_in_nfd(folder: Path, tmp_path: Path) -> None:
    fill(folder, {COMPOSED: 12, "cafz": 12})
    fill(tmp_path / "copy", {DECOMPOSED: 12, "cafz": 12})
    listings = [list_images(path) for path in (folder, tmp_path / "copy")]
    stems = [[Path(file.path).stem for file in listing.test[COMPOSED]] for listing in listings]
    assert stems[0] == stems[1]
