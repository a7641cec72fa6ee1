"""Which folders are parts to train, validate and test on, and which are classes."""

from pathlib import Path

import pytest
from image_folders import fill, put_images

from cnnbench.data.listing import Listing, list_images
from cnnbench.data.parts import find_test_folder
from cnnbench.errors import DataError

CLASSES = {"cats": 2, "dogs": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def first_folders(listing: Listing, folder: Path) -> list[set[str]]:
    """Of each part in what folders of `folder` its files are."""
    parts = (listing.train, listing.validation, listing.test)
    return [{Path(file.path).relative_to(folder).parts[0] for file in part} for part in parts]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *(("training", "testing"), ("Training", "Testing"), ("TRAIN", "TEST"), ("train", "Testing")),
        *(("train_set", "test_set"), ("training_set", "test_set")),
        *(("trainset", "testset"), ("TrainSet", "TestSet")),
        *(("seg_train", "seg_test"), ("data-train", "data-test"), ("train images", "test images")),
        *(("trainval", "test"), ("trn", "tst")),
        *(("train2017", "test2017"), ("fruits_train", "test"), ("xTrain", "xTest")),
    ],
)
def test_folders_named_like_parts_are_parts(folder: Path, train: str, test: str) -> None:
    for part in (train, test):
        fill(folder / part, CLASSES)
    listing = list_images(folder)
    assert (listing.classes, first_folders(listing, folder)) == (("cats", "dogs"), [{train}, set(), {test}])


@pytest.mark.parametrize("name", ["dev", "eval", "Validation", "val2017", "valid_set", "VAL"])
def test_folders_named_like_a_validation_set_are_one(folder: Path, name: str) -> None:
    for part in ("train", name, "test"):
        fill(folder / part, CLASSES)
    assert first_folders(list_images(folder), folder) == [{"train"}, {name}, {"test"}]


def test_parts_of_unusual_names_are_reported(folder: Path) -> None:
    for part in ("my_test", "my_train"):
        fill(folder / part, CLASSES)
    assert list_images(folder).notes == ("Parts: my_test/ to test on, my_train/ to train on.",)


def test_parts_share_the_rest_of_their_names_where_there_are_others(folder: Path) -> None:
    for part in ("seg_train", "seg_test"):
        fill(folder / part, CLASSES)
    put_images(folder, ["seg_pred/1.png"])
    listing = list_images(folder)
    assert first_folders(listing, folder) == [{"seg_train"}, set(), {"seg_test"}]
    assert "Not used: 1 folder, such as seg_pred." in listing.notes[1]


def test_parts_with_the_same_classes_are_parts_beside_another_folder(folder: Path) -> None:
    for part in ("training_data", "test_images"):
        fill(folder / part, CLASSES)
    put_images(folder, ["annotations/1.png"])
    listing = list_images(folder)
    assert first_folders(listing, folder) == [{"training_data"}, set(), {"test_images"}]


def test_a_part_in_a_folder_of_its_own_name_is_found(folder: Path) -> None:
    for part in ("seg_train/seg_train", "seg_test/seg_test"):
        fill(folder / part, CLASSES)
    assert list_images(folder).classes == ("cats", "dogs")


@pytest.mark.parametrize("names", [("bus", "car", "train"), ("resting", "training"), ("port", "train_station")])
@pytest.mark.parametrize("below", ["", "below/"])
def test_a_class_may_be_called_like_a_part(folder: Path, names: tuple[str, ...], below: str) -> None:
    put_images(folder, [f"{name}/{number}.png" for name in names for number in range(2)])
    put_images(folder, [f"{name}/{below}{number}.jpg" for name in names for number in range(2)])
    assert list_images(folder).classes == names


@pytest.mark.parametrize("names", [("test_strips", "test_tubes"), ("control", "test")])
def test_classes_of_folders_may_be_called_like_a_part(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        fill(folder / name, {"left": 2, "right": 2})
    assert list_images(folder).classes == names


def test_images_in_train_and_test_themselves_are_reported_with_what_they_need(folder: Path) -> None:
    fill(folder, {"train": 2, "test": 2})
    with pytest.raises(DataError, match="photos/train holds images, but no folders"):
        list_images(folder)


def test_parts_without_one_to_train_on_are_refused(folder: Path) -> None:
    for part in ("test", "Val"):
        fill(folder / part, CLASSES)
    with pytest.raises(DataError, match="photos has Val/ and test/, but no train/ to train on"):
        list_images(folder)


def test_two_folders_for_one_part_are_refused(folder: Path) -> None:
    for part in ("train", "val", "valid"):
        fill(folder / part, CLASSES)
    with pytest.raises(DataError, match="photos has val, valid for one part"):
        list_images(folder)


def test_a_folder_around_the_parts_is_reported_with_what_to_do(folder: Path) -> None:
    for part in ("train", "test"):
        fill(folder / "photos" / part, CLASSES)
    with pytest.raises(DataError, match=f"single class, photos.*data.path={folder}/photos"):
        list_images(folder)


def test_the_folder_to_test_on_is_known_by_its_name(folder: Path) -> None:
    assert find_test_folder(folder) is None
    for part in ("Training", "val", "Testing"):
        fill(folder / part, CLASSES)
    assert find_test_folder(folder) == folder / "Testing"


@pytest.mark.parametrize("part", ["test", "Validation"])
def test_a_part_beside_the_classes_that_are_in_it_is_refused(folder: Path, part: str) -> None:
    for place in (folder, folder / part):
        fill(place, CLASSES)
    with pytest.raises(DataError, match=rf"photos has cats, dogs in {part}/ and beside it\. Move"):
        list_images(folder)
