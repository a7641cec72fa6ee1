"""Scan of a folder dataset: classes, notes and problems."""

import os
import shutil
from pathlib import Path

import pytest
from helpers.folder_listings import COMPOSED, DECOMPOSED, list_all_names, list_problems
from helpers.image_folders import fill, put_images

from cnnbench.analysis.format import printable
from cnnbench.data import scan_folder
from cnnbench.data.scan_folder import FORMATS, list_images

Names = tuple[str, ...]
CLASSES = {"cats": 2, "dogs": 2}


# Classes


def test_classes_are_the_folders_sorted_by_name(folder: Path) -> None:
    fill(folder, {"dogs": 2, "Birds": 2, "cats": 2, "10": 2, "9": 2})
    listing = list_images(folder)
    assert list(listing.train) == list(listing.test) == ["10", "9", "Birds", "cats", "dogs"]
    for name, files in listing.train.items():
        assert {Path(file.path).parent.name for file in files} == {name}


def test_images_are_found_in_any_case_and_depth(folder: Path) -> None:
    names = ["cats/a.png", "cats/b.PNG", "cats/in/c.jpg", "cats/in/deep/d.JPEG", "dogs/e.Jpg"]
    put_images(folder, names)
    for name in ("dogs/f.jfif", "dogs/f.jpe", "dogs/g.webp", "dogs/h.gif", "dogs/i.bmp"):
        shutil.copy(folder / "cats/a.png", folder / name)
        names.append(name)
    for name in ("dogs/j.tif", "dogs/j.tiff"):
        shutil.copy(folder / "cats/a.png", folder / name)
        names.append(name)
    assert list_all_names(folder) == names


def test_images_of_a_class_are_sorted_by_path(folder: Path) -> None:
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
    assert len(list_all_names(folder)) == 5


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
    expected = list_images(folder)
    (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
    (folder / hidden).write_text("nothing")
    assert list_images(folder) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f52c"),
        *("two\u00a0words", "\u72ac\u3000\u732b", "\u0928\u093f", "$100 {a} 'b'"),
    ],
    ids=ascii,
)
def test_class_names_may_have_any_letters_and_joiners(folder: Path, name: str) -> None:
    listing = list_images(fill(folder, {"cats": 2, name: 1}))
    note = listing.notes[1]
    assert (name in listing.train, name in note, printable(note)) == (True, True, note)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [("\x1b[2J", r"\x1b[2J'"), (os.fsdecode(b"caf\xe9"), r"caf\udce9'")],
    ids=["control characters", "not text"],
)
def test_class_name_that_is_not_text_is_a_problem(folder: Path, name: str, escaped: str) -> None:
    fill(folder, CLASSES)
    (folder / name).mkdir()
    (problem,) = list_problems(folder)
    assert problem.endswith(f"{escaped}: a class cannot have this name. Rename it.")
    assert printable(problem) == problem


def test_text_direction_characters_are_escaped_in_notes(folder: Path) -> None:
    listing = list_images(fill(folder, {"cats": 2, "x\u202ey": 1}))
    assert "x\u202ey" in listing.train
    assert r"'x\u202ey'" in listing.notes[1]


def test_one_name_in_two_unicode_forms_is_one_class(folder: Path) -> None:
    fill(folder / "train", {COMPOSED: 3, DECOMPOSED: 4, "dogs": 2})
    fill(folder / "test", {DECOMPOSED: 2, "dogs": 2})
    listing = list_images(folder)
    counts = [{name: len(files) for name, files in part.items()} for part in listing[:3:2]]
    assert counts == [{COMPOSED: 7, "dogs": 2}, {COMPOSED: 2, "dogs": 2}]
    paths = [file.path for file in listing.train[COMPOSED]]
    assert [Path(path).stem for path in paths] == ["000", "000", "001", "001", "002", "002", "003"]


# Notes


def test_no_notes_on_parts_with_usual_names(folder: Path) -> None:
    for part in ("Training", "val", "test"):
        fill(folder / part, CLASSES)
    assert list_images(folder).notes == []


def test_note_on_parts_with_unusual_names_and_unused_files(folder: Path) -> None:
    for part in ("my_test", "my_train", "more"):
        fill(folder / part, CLASSES)
    (folder / "labels.csv").touch()
    assert list_images(folder).notes == [
        "Parts: my_test to test on, my_train to train on.",
        f"Not used: labels.csv, more. Images are {FORMATS} files of a class.",
    ]


def test_note_on_the_first_unused_files(folder: Path) -> None:
    fill(folder, CLASSES)
    for name in ("stray.png", "list.txt", "cats/a.svg", "cats/b.SVG", "dogs/README", "dogs/c.heic"):
        (folder / name).touch()
    unused = "list.txt, stray.png, cats/a.svg, cats/b.SVG, dogs/README"
    hint = f"Images are {FORMATS} files of a class."
    assert list_images(folder).notes[1:] == [f"Not used: {unused} and 1 more. {hint}"]
    (folder / "dogs/c.heic").unlink()
    assert list_images(folder).notes[1:] == [f"Not used: {unused}. {hint}"]


def test_note_on_classes_with_one_image(folder: Path) -> None:
    notes = list_images(fill(folder, {"cats": 6, "cows": 1, "dogs": 6})).notes
    assert notes[1:] == ["Only one image to train on, none to split off: cows."]


@pytest.mark.parametrize("part", ["test", "val"])
@pytest.mark.parametrize("has_folder", [True, False])
def test_note_on_a_class_without_images_in_a_part(
    folder: Path, part: str, has_folder: bool
) -> None:
    fill(folder / "train", {"cats": 2, "cows": 2, "dogs": 2})
    fill(folder / part, CLASSES)
    if has_folder:
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
    (problem,) = list_problems(folder)
    assert problem.startswith(f"{folder} has {found}, and at least two folders are needed")


@pytest.mark.parametrize("part", ["test", "val"])
def test_all_problems_are_reported_together(folder: Path, part: str) -> None:
    fill(folder / "train", CLASSES)
    fill(folder / part, {"cats": 1, "cows": 1})
    (folder / "train/birds").mkdir()
    (folder / f"{part}/cats/broken.png").symlink_to("nowhere")
    (folder / f"{part}/cats/itself.png").symlink_to("itself.png")
    os.mkfifo(folder / "train/cats/pipe.png")
    expected = [
        "train/cats/pipe.png is a broken link, or not a file.",
        f"{part}/cats/broken.png is a broken link, or not a file.",
        f"{part}/cats/itself.png is a broken link, or not a file.",
        f"train has no {FORMATS} files for birds.",
        f"train has no folder for cows, which {part} has.",
    ]
    assert sorted(list_problems(folder)) == sorted(expected)


@pytest.mark.parametrize("part", ["test", "val"])
def test_part_without_images_in_classes_is_a_problem(folder: Path, part: str) -> None:
    fill(folder / "train", CLASSES)
    put_images(folder, [f"{part}/a.png"])
    assert list_problems(folder) == [f"{part} has no {FORMATS} files for cats, dogs."]


@pytest.mark.parametrize("inside", ["", "cats", "cats/deep"])
def test_folder_without_read_permission_is_a_problem(
    folder: Path, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate the system's error, because root may list all folders."""
    put_images(folder, ["cats/deep/a.png", "cats/b.png", "dogs/c.png"])
    scan = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == folder / inside:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    place = f"{folder}/{inside}" if inside else str(folder)
    expected = f"{place} cannot be looked into: Permission denied.".replace(f"{folder}/", "")
    assert expected in list_problems(folder)


@pytest.mark.parametrize(("num_images", "is_refused"), [(1, True), (2, False)])
def test_scan_stops_if_hardly_any_file_is_an_image(
    folder: Path, num_images: int, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_folder, "MAX_ENTRIES_WITHOUT_IMAGES", 50)
    put_images(folder, [*(f"bin/{number}.png" for number in range(num_images)), "cats/1.png"])
    for index in range(100 - num_images):
        (folder / "bin" / f"{index}.txt").touch()
    message = f"{folder} is not a folder of images: 1 of the first 100 files and folders in it are."
    assert any(problem.startswith(message) for problem in list_problems(folder)) == is_refused
