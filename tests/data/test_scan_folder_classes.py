"""Listing the images of a folder: parts, classes, the split, and what is wrong or not used."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.image_folders import fill, put_images

from cnnbench.analysis.format import printable
from cnnbench.data import scan_folder
from cnnbench.data.scan_folder import FORMATS, Classes, find_test_folder, list_images
from cnnbench.errors import DataError, format_count

Names = tuple[str, ...]
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
CLASSES = {"cats": 2, "dogs": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def names(part: Classes, folder: Path) -> list[str]:
    paths = [Path(file.path) for files in part.values() for file in files]
    return [path.relative_to(folder).as_posix() for path in paths]


def all_names(folder: Path) -> list[str]:
    train, validation, test, *_ = list_images(folder)
    return sorted(name for part in (train, validation, test) for name in names(part, folder))


def top_folders(folder: Path) -> list[set[str]]:
    """Return in which folders of `folder` the files of each part are."""
    train, validation, test, *_ = list_images(folder)
    parts = [names(part, folder) for part in (train, validation, test)]
    return [{name.split("/")[0] for name in part} for part in parts]


def problems(folder: Path) -> list[str]:
    """Return what is wrong in a folder, without its path."""
    try:
        found = list_images(folder).problems
    except DataError as error:
        found = [str(error)]
    return [problem.replace(f"{folder}/", "") for problem in found]


# Classes


def test_classes_are_the_folders_in_the_order_of_their_names(folder: Path) -> None:
    fill(folder, {"dogs": 2, "Birds": 2, "cats": 2, "10": 2, "9": 2})
    listing = list_images(folder)
    assert list(listing.train) == list(listing.test) == ["10", "9", "Birds", "cats", "dogs"]
    for name, files in listing.train.items():
        assert {Path(file.path).parent.name for file in files} == {name}


def test_images_are_found_whatever_their_case_and_depth(folder: Path) -> None:
    found = ["cats/a.png", "cats/b.PNG", "cats/in/c.jpg", "cats/in/deep/d.JPEG", "dogs/e.Jpg"]
    put_images(folder, found)
    for name in ("dogs/f.jfif", "dogs/f.jpe", "dogs/g.webp", "dogs/h.gif", "dogs/i.bmp"):
        shutil.copy(folder / "cats/a.png", folder / name)
        found.append(name)
    for name in ("dogs/j.tif", "dogs/j.tiff"):
        shutil.copy(folder / "cats/a.png", folder / name)
        found.append(name)
    assert all_names(folder) == found


def test_images_of_a_class_are_in_the_order_of_their_paths(folder: Path) -> None:
    in_order = [f"cats/{name}/{number}.png" for name in "abcdef" for number in range(3)]
    put_images(folder, [*(f"cats/{name}.png" for name in "bdf"), *in_order, "dogs/1.png"])
    cats = [file.path for file in list_images(folder).train["cats"]]
    assert cats == sorted(cats)


def test_links_to_folders_are_followed_once(folder: Path, tmp_path: Path) -> None:
    fill(folder, {"cats": 2})
    fill(tmp_path / "elsewhere", {"dogs": 3})
    (folder / "dogs").symlink_to(tmp_path / "elsewhere" / "dogs")
    (folder / "cats" / "again").symlink_to(folder / "cats")
    (folder / "cats" / "up").symlink_to(folder)
    assert len(all_names(folder)) == 5


@pytest.mark.parametrize(
    "hidden",
    [
        *(".DS_Store", "cats/._000.png", "cats/.thumbs/000.png", ".cache/000.png"),
        *("__MACOSX/cats/000.png", "cats/@eaDir/000.png", "lost+found/000.png"),
        *("$RECYCLE.BIN/000.png", "System Volume Information/000.png", "cats/Thumbs.db"),
        *("desktop.ini", "cats/__pycache__/000.png"),
    ],
)
def test_hidden_and_system_files_are_ignored(folder: Path, hidden: str) -> None:
    fill(folder, CLASSES)
    before = list_images(folder)
    (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
    (folder / hidden).write_text("nothing")
    assert list_images(folder) == before


@pytest.mark.parametrize(
    "name",
    [
        *("\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f52c"),
        *("two\u00a0words", "\u72ac\u3000\u732b", "\u0928\u093f", "$100 {a} 'b'"),
    ],
    ids=ascii,
)
def test_a_class_name_may_have_any_letters_and_joiners(folder: Path, name: str) -> None:
    listing = list_images(fill(folder, {"cats": 2, name: 1}))
    note = listing.notes[1]
    assert (name in listing.train, name in note, printable(note)) == (True, True, note)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("\x1b[2J", r"\x1b[2J'"), (os.fsdecode(b"caf\xe9"), r"caf\udce9'")],
    ids=["control characters", "no text"],
)
def test_a_class_name_that_is_no_text_is_a_problem(folder: Path, name: str, shown: str) -> None:
    fill(folder, CLASSES)
    (folder / name).mkdir()
    (problem,) = problems(folder)
    assert problem.endswith(f"{shown}: a class cannot have this name. Rename it.")
    assert printable(problem) == problem


def test_text_direction_characters_are_escaped_in_notes(folder: Path) -> None:
    listing = list_images(fill(folder, {"cats": 2, "x\u202ey": 1}))
    assert "x\u202ey" in listing.train
    assert r"'x\u202ey'" in listing.notes[1]


def test_one_name_in_two_unicode_forms_is_one_class(folder: Path, tmp_path: Path) -> None:
    fill(folder / "train", {COMPOSED: 3, DECOMPOSED: 4, "dogs": 2})
    fill(folder / "test", {DECOMPOSED: 2, "dogs": 2})
    listing = list_images(folder)
    counts = [{name: len(files) for name, files in part.items()} for part in listing[:3:2]]
    assert counts == [{COMPOSED: 7, "dogs": 2}, {COMPOSED: 2, "dogs": 2}]
    paths = [file.path for file in listing.train[COMPOSED]]
    assert [Path(path).stem for path in paths] == ["000", "000", "001", "001", "002", "002", "003"]


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
def test_folders_named_like_parts_are(folder: Path, train: str, test: str, beside: Names) -> None:
    fill(folder / train, {"cats": 3, "dogs": 2})
    fill(folder / test, {"cats": 1, "dogs": 2})
    for name in beside:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    listing = list_images(folder)
    expected = [{train.split("/")[0]}, set(), {test.split("/")[0]}]
    assert (list(listing.train), top_folders(folder)) == (["cats", "dogs"], expected)
    assert (listing.split_here, listing.problems) == (False, [])
    assert find_test_folder(folder) == folder / test


@pytest.mark.parametrize(
    "name",
    [
        *("val", "valid", "validation", "dev", "eval", "evaluation"),
        *("Validation", "val2017", "valid_set", "VAL"),
    ],
)
def test_folders_named_like_a_validation_set_are_one(folder: Path, name: str) -> None:
    for part in ("train", name, "test"):
        fill(folder / part, CLASSES)
    assert top_folders(folder) == [{"train"}, {name}, {"test"}]


@pytest.mark.parametrize("others", [(), ("val",)])
def test_without_a_test_part_a_sixth_of_train_is_set_apart(folder: Path, others: Names) -> None:
    for part in ("train", *others):
        fill(folder / part, {"cats": 12, "dogs": 6})
    listing = list_images(folder)
    sizes = [sum(map(len, part.values())) for part in listing[:3]]
    assert (sizes, listing.split_here) == ([15, 18 * len(others), 3], True)
    assert top_folders(folder)[2] == {"train"}
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
def test_a_class_may_be_called_like_a_part(folder: Path, images: Names) -> None:
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
def test_incomplete_parts_are_refused_with_what_to_do(folder: Path, images: Names) -> None:
    put_images(folder, [f"{image}.png" for image in images])
    (problem,) = problems(folder)
    assert "but not train/ and test/ or val/, each with a folder for each class" in problem
    assert "data.path=" in problem


def test_two_folders_for_one_part_are_refused(folder: Path) -> None:
    for part in ("train", "val", "valid"):
        fill(folder / part, CLASSES)
    assert problems(folder) == [f"{folder} has train, val, valid, two for one part. Rename one."]
    assert find_test_folder(folder) is None


# The part that is set apart


@pytest.mark.parametrize(
    ("number", "apart"),
    [(1, 0), (2, 1), (6, 1), (8, 1), (9, 2), (12, 2), (60, 10)],
)
def test_a_sixth_of_each_class_is_set_apart(folder: Path, number: int, apart: int) -> None:
    listing = list_images(fill(folder, {"cats": number, "dogs": 6}))
    sizes = [[len(files) for files in part.values()] for part in (listing.train, listing.test)]
    assert (sizes, listing.split_here) == ([[number - apart, 5], [apart, 1]], True)
    assert len(set(all_names(folder))) == number + 6
    images = format_count(apart + 1, "image")
    told = f"Set apart for testing: {images}, a sixth of each class"
    assert listing.notes[0] == f"{told}, the same with any seed."


def test_the_split_is_the_same_as_ever(folder: Path) -> None:
    test = list_images(fill(folder, {"cats": 20, "dogs": 20})).test
    assert names(test, folder) == [
        *("cats/002.png", "cats/008.png", "cats/016.png"),
        *("dogs/009.png", "dogs/011.png", "dogs/016.png"),
    ]


def test_the_listing_does_not_depend_on_the_order_of_the_file_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"cats": 20, "dogs": 20, COMPOSED: 4, DECOMPOSED: 4})
    expected = list_images(folder)
    walk, draw = os.walk, random.Random(1)

    def shuffle(*args: Any, **options: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, folders, files in walk(*args, **options):
            draw.shuffle(folders)
            draw.shuffle(files)
            yield place, folders, files

    monkeypatch.setattr(os, "walk", shuffle)
    for _ in range(4):
        assert list_images(folder) == expected


def test_the_split_is_the_same_after_a_move_and_in_nfd(folder: Path, tmp_path: Path) -> None:
    fill(folder, {COMPOSED: 12, "cafz": 12})
    fill(tmp_path / "copy", {DECOMPOSED: 12, "cafz": 12})
    listings = [list_images(path) for path in (folder, tmp_path / "copy")]
    stems = [[Path(file.path).stem for file in listing.test[COMPOSED]] for listing in listings]
    assert stems[0] == stems[1]


# Notes


def test_parts_of_usual_names_need_no_notes(folder: Path) -> None:
    for part in ("Training", "val", "test"):
        fill(folder / part, CLASSES)
    assert list_images(folder).notes == []


def test_notes_tell_parts_of_unusual_names_and_what_is_beside_them(folder: Path) -> None:
    for part in ("my_test", "my_train", "more"):
        fill(folder / part, CLASSES)
    (folder / "labels.csv").touch()
    assert list_images(folder).notes == [
        "Parts: my_test to test on, my_train to train on.",
        f"Not used: labels.csv, more. Images are {FORMATS} files of a class.",
    ]


def test_notes_name_the_first_files_that_are_not_used(folder: Path) -> None:
    fill(folder, CLASSES)
    for name in ("stray.png", "list.txt", "cats/a.svg", "cats/b.SVG", "dogs/README", "dogs/c.heic"):
        (folder / name).touch()
    unused = "list.txt, stray.png, cats/a.svg, cats/b.SVG, dogs/README"
    told = f"Images are {FORMATS} files of a class."
    assert list_images(folder).notes[1:] == [f"Not used: {unused} and 1 more. {told}"]
    (folder / "dogs/c.heic").unlink()
    assert list_images(folder).notes[1:] == [f"Not used: {unused}. {told}"]


def test_notes_name_classes_of_one_image(folder: Path) -> None:
    notes = list_images(fill(folder, {"cats": 6, "cows": 1, "dogs": 6})).notes
    assert notes[1:] == ["Only one image to train on, none to split off: cows."]


@pytest.mark.parametrize("part", ["test", "val"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_class_without_images_in_a_part_is_noted(folder: Path, part: str, is_there: bool) -> None:
    fill(folder / "train", {"cats": 2, "cows": 2, "dogs": 2})
    fill(folder / part, CLASSES)
    if is_there:
        (folder / part / "cows").mkdir()
    listing = list_images(folder)
    assert (list(listing.train), listing.problems) == (["cats", "cows", "dogs"], [])
    assert f"Without images in {part}/: cows." in listing.notes


# Problems


@pytest.mark.parametrize(
    ("images", "found"),
    [((), "no folders"), (("a.png", "b.png"), "no folders"), (("photos/cats/1.png",), "photos")],
    ids=["nothing", "images", "a folder around the classes"],
)
def test_fewer_than_two_classes_are_refused(folder: Path, images: Names, found: str) -> None:
    folder.mkdir()
    put_images(folder, images)
    (problem,) = problems(folder)
    assert problem.startswith(f"{folder} has {found}, and at least two folders are needed")


@pytest.mark.parametrize("part", ["test", "val"])
def test_all_problems_are_found_at_once(folder: Path, part: str) -> None:
    fill(folder / "train", CLASSES)
    fill(folder / part, {"cats": 1, "cows": 1})
    (folder / "train/birds").mkdir()
    (folder / f"{part}/cats/broken.png").symlink_to("nowhere")
    (folder / f"{part}/cats/itself.png").symlink_to("itself.png")
    os.mkfifo(folder / "train/cats/pipe.png")
    expected = [
        "train/cats/pipe.png is a link to nothing, or not a file.",
        f"{part}/cats/broken.png is a link to nothing, or not a file.",
        f"{part}/cats/itself.png is a link to nothing, or not a file.",
        f"train has no {FORMATS} files for birds.",
        f"train has no folder for cows, which {part} has.",
    ]
    assert sorted(problems(folder)) == sorted(expected)


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_part_without_any_images_of_classes_is_a_problem(folder: Path, part: str) -> None:
    fill(folder / "train", CLASSES)
    put_images(folder, [f"{part}/a.png"])
    assert problems(folder) == [f"{part} has no {FORMATS} files for cats, dogs."]


@pytest.mark.parametrize("inside", ["", "cats", "cats/deep"])
def test_a_folder_that_may_not_be_listed_is_a_problem(
    folder: Path, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root may list all folders, the system's answer is made up."""
    put_images(folder, ["cats/deep/a.png", "cats/b.png", "dogs/c.png"])
    scan = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == folder / inside:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    place = f"{folder}/{inside}" if inside else str(folder)
    expected = f"{place} cannot be looked into: Permission denied.".replace(f"{folder}/", "")
    assert expected in problems(folder)


@pytest.mark.parametrize(("num_images", "is_refused"), [(1, True), (2, False)])
def test_a_folder_with_hardly_an_image_is_left(
    folder: Path, num_images: int, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_folder, "MAX_ENTRIES_WITHOUT_IMAGES", 50)
    put_images(folder, [*(f"bin/{number}.png" for number in range(num_images)), "cats/1.png"])
    for index in range(100 - num_images):
        (folder / "bin" / f"{index}.txt").touch()
    told = f"{folder} is no folder of images: 1 of the first 100 files and folders in it are."
    assert any(problem.startswith(told) for problem in problems(folder)) == is_refused
