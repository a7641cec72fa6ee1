"""What is found in a folder of one's own, and what is said of one that is no data set."""

import os
import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from image_folders import fill, put_images

from cnnbench.analysis.format import printable
from cnnbench.data.listing import ImageFile, Listing, list_images
from cnnbench.data.own import refuse
from cnnbench.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def names(files: tuple[ImageFile, ...], folder: Path) -> list[str]:
    return [str(Path(file.path).relative_to(folder)) for file in files]


def all_names(listing: Listing, folder: Path) -> list[str]:
    return sorted(names((*listing.train, *listing.validation, *listing.test), folder))


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def problems(folder: Path) -> str:
    try:
        return str(refuse(folder, list_images(folder).problems))
    except DataError as error:
        return str(error)


# Layouts


def test_classes_are_the_folders_in_the_order_of_their_names(folder: Path) -> None:
    fill(folder, {"dogs": 2, "Birds": 2, "cats": 2, "10": 2, "9": 2})
    assert list_images(folder).classes == ("10", "9", "Birds", "cats", "dogs")


def test_labels_are_places_in_the_classes(folder: Path) -> None:
    listing = list_images(fill(folder, {"cats": 7, "dogs": 9}))
    for file in (*listing.train, *listing.test):
        assert listing.classes[file.label] == Path(file.path).parent.name


def test_png_and_jpeg_are_found_whatever_the_case_and_however_deep(folder: Path) -> None:
    found = ["cats/a.png", "cats/b.PNG", "cats/in/c.jpg", "cats/in/deep/d.JPEG", "dogs/e.Jpg"]
    put_images(folder, found)
    assert all_names(list_images(folder), folder) == found


def test_images_are_in_the_order_of_their_names(folder: Path) -> None:
    in_order = [f"cats/{name}/{number}.png" for name in "abcdef" for number in range(3)]
    put_images(folder, [*(f"cats/{name}.png" for name in "bdf"), *in_order, "dogs/1.png", "dogs/2.png"])
    train = list_images(folder).train
    assert [file.path for file in train] == sorted(file.path for file in train)


@pytest.mark.parametrize("train", ["train", "Train"])
def test_train_and_test_are_taken_as_they_are(folder: Path, train: str) -> None:
    fill(folder / train, {"cats": 3, "dogs": 2})
    fill(folder / "test", {"cats": 1, "dogs": 2})
    listing = list_images(folder)
    assert (listing.classes, len(listing.train), len(listing.test)) == (("cats", "dogs"), 5, 3)
    assert (listing.validation, listing.split_here, listing.notes) == ((), False, ())
    assert {Path(name).parts[0] for name in names(listing.test, folder)} == {"test"}


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_val_is_the_validation_set(folder: Path, validation: str) -> None:
    for part in ("train", validation, "test"):
        fill(folder / part, {"cats": 2, "dogs": 2})
    listing = list_images(folder)
    parts = [listing.train, listing.validation, listing.test]
    assert [{Path(name).parts[0] for name in names(part, folder)} for part in parts] == [
        {"train"},
        {validation},
        {"test"},
    ]
    assert (listing.validation_folder, listing.split_here, listing.notes) == (validation, False, ())


@pytest.mark.parametrize("others", [(), ("val",)])
def test_without_test_a_part_of_train_is_set_apart(folder: Path, others: tuple[str, ...]) -> None:
    for part in ("train", *others):
        fill(folder / part, {"cats": 12, "dogs": 6})
    listing = list_images(folder)
    files = (*listing.train, *listing.test)
    assert {Path(name).parts[0] for name in names(files, folder)} == {"train"}
    sizes = (len(listing.train), len(listing.validation), len(listing.test))
    assert sizes == (15, 18 * len(others), 3)
    assert listing.split_here
    assert listing.notes[0].startswith("Set apart for testing: 3 images")


def test_the_same_images_are_set_apart_of_train_whether_it_is_named_or_found(folder: Path) -> None:
    fill(folder / "train", {"cats": 30, "dogs": 30})
    assert list_images(folder).test == list_images(folder / "train").test


def test_what_lies_beside_train_and_test_is_not_used_and_told(folder: Path) -> None:
    for part in ("train", "test", "more"):
        fill(folder / part, {"cats": 2, "dogs": 2})
    (folder / "labels.csv").touch()
    assert list_images(folder).notes[0].startswith("Not used: 1 .csv, 1 folder, such as labels.csv.")


def test_a_class_may_be_called_train(folder: Path) -> None:
    assert list_images(fill(folder, {"car": 2, "train": 2})).classes == ("car", "train")


def test_a_link_to_a_folder_is_a_class(folder: Path, tmp_path: Path) -> None:
    fill(folder, {"cats": 2})
    fill(tmp_path / "elsewhere", {"dogs": 3})
    (folder / "dogs").symlink_to(tmp_path / "elsewhere" / "dogs")
    assert len(all_names(list_images(folder), folder)) == 5


def test_a_link_back_is_followed_once(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    (folder / "cats" / "again").symlink_to(folder / "cats")
    assert len(all_names(list_images(folder), folder)) == 4


@pytest.mark.parametrize(
    ("hidden", "told"),
    [
        (".DS_Store", ".DS_Store"),
        ("cats/._000.png", "._*"),
        ("cats/.thumbs/000.png", ".thumbs"),
        (".cache/000.png", ".cache"),
        ("cats/.ipynb_checkpoints/000.png", ".ipynb_checkpoints"),
        ("__MACOSX/cats/000.png", "__MACOSX"),
        ("cats/@eaDir/000.png", "@eaDir"),
        ("lost+found/000.png", "lost+found"),
        ("$RECYCLE.BIN/000.png", "$RECYCLE.BIN"),
        ("System Volume Information/000.png", "System Volume Information"),
        ("cats/Thumbs.db", "Thumbs.db"),
        ("desktop.ini", "desktop.ini"),
        ("cats/__pycache__/000.png", "__pycache__"),
    ],
)
def test_system_files_are_passed_over_and_named(folder: Path, hidden: str, told: str) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
    (folder / hidden).write_text("nothing")
    listing = list_images(folder)
    assert (len(listing.train) + len(listing.test), listing.classes) == (4, ("cats", "dogs"))
    assert listing.notes[1:] == (f"Passed over: {told}.",)


# The part that is set apart


@pytest.mark.parametrize(("number", "apart"), [(1, 0), (2, 1), (6, 1), (8, 1), (9, 2), (12, 2), (60, 10)])
def test_a_sixth_of_each_class_is_set_apart_but_one_at_least_of_two(folder: Path, number: int, apart: int) -> None:
    listing = list_images(fill(folder, {"cats": number, "dogs": 6}))
    labels = [file.label for file in listing.test]
    assert (labels.count(0), labels.count(1), len(listing.train)) == (apart, 1, number + 6 - apart - 1)
    assert listing.split_here


def test_every_image_is_in_one_part(folder: Path) -> None:
    listing = list_images(fill(folder, {"cats": 20, "dogs": 13}))
    assert len(set(all_names(listing, folder))) == len(listing.train) + len(listing.test) == 33


def test_how_many_are_set_apart_is_told(folder: Path) -> None:
    assert (
        "Set apart for testing: 5 images, a sixth of each class"
        in list_images(fill(folder, {"a": 12, "b": 20})).notes[0]
    )


def test_it_does_not_depend_on_the_order_of_the_file_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, {"cats": 20, "dogs": 20, COMPOSED: 4, DECOMPOSED: 4})
    expected = list_images(folder)
    scan = os.scandir

    class Shuffled(list):  # type: ignore[type-arg]
        def __enter__(self) -> "Shuffled":
            return self

        def __exit__(self, *error: object) -> None:
            pass

    draw = random.Random(1)
    monkeypatch.setattr(os, "scandir", lambda path: Shuffled(draw.sample(found := list(scan(path)), len(found))))
    for _ in range(4):
        assert list_images(folder) == expected


def test_it_is_the_same_where_the_folder_is_moved_to(folder: Path, tmp_path: Path) -> None:
    fill(folder, {"cats": 20, "dogs": 20})
    before = names(list_images(folder).test, folder)
    moved = folder.rename(tmp_path / "moved")
    assert names(list_images(moved).test, moved) == before


def test_it_does_not_follow_the_numbers_of_the_files(folder: Path) -> None:
    numbers = [int(Path(file.path).stem) for file in list_images(fill(folder, {"cats": 60, "dogs": 1})).test]
    assert len({later - earlier for earlier, later in pairwise(numbers)}) > 3


def test_few_others_change_parts_where_images_are_added(folder: Path) -> None:
    before = set(names(list_images(fill(folder, {"cats": 60, "dogs": 60})).test, folder))
    after = set(names(list_images(fill(folder, {"cats": 66, "dogs": 60})).test, folder))
    assert len(before - after) <= 2


# What is not used


def test_other_files_are_counted_by_kind_with_an_example(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    for name in ("cats/a.svg", "cats/b.SVG", "dogs/c.heic", "dogs/README", "list.txt"):
        (folder / name).touch()
    assert list_images(folder).notes[1].startswith("Not used: 2 .svg, 1 .heic, 1 .txt, 1 other, such as cats/a.svg.")


def test_of_many_kinds_the_rarest_are_counted_together(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    for number in range(20):
        (folder / f"cats/a.{number:03d}").touch()
    assert ", 15 other, such as cats/a.000." in list_images(folder).notes[1]


def test_an_image_beside_the_classes_is_not_used(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    put_images(folder, ["stray.png"])
    assert "Not used: 1 .png, such as stray.png" in list_images(folder).notes[1]


# What is wrong


def test_a_folder_without_anything_is_no_data_set(folder: Path) -> None:
    folder.mkdir()
    assert problems(folder).startswith(f"{folder} holds no data set: neither folders of images")


def test_images_without_folders_are_told_what_they_need(folder: Path) -> None:
    put_images(folder, ["a.png", "b.png"])
    assert problems(folder).startswith(f"{folder} holds images, but no folders")


@pytest.mark.parametrize("layout", ["{part}/{name}", "{name}/{part}"])
def test_classes_that_hold_the_same_folders_are_reported(folder: Path, layout: str) -> None:
    for part in ("lernen", "pruefen"):
        for name in ("cats", "dogs"):
            put_images(folder, [f"{layout.format(part=part, name=name)}/{i}.png" for i in (1, 2)])
    notes = " ".join(list_images(folder).notes)
    assert "Each class holds folders of the same names, taken together: " in notes


def test_a_link_to_a_folder_above_leads_to_no_other_class(folder: Path) -> None:
    fill(folder, {"cats": 3, "dogs": 3})
    (folder / "cats" / "up").symlink_to(folder)
    listing = list_images(folder)
    assert len(listing.train) + len(listing.test) == 6


def test_a_single_class_is_nothing_to_tell_apart(folder: Path) -> None:
    fill(folder / "images", {"cats": 2, "dogs": 2})
    assert f"{folder} has a single class, images: " in problems(folder)
    assert f"give data.path={folder / 'images'}" in problems(folder)


def test_an_empty_class_is_told(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    (folder / "birds").mkdir()
    assert problems(folder) == f"{folder}/birds has no image files."


def test_a_class_of_another_format_is_told_with_what_it_has(folder: Path) -> None:
    fill(folder, {"cats": 2})
    (folder / "birds").mkdir()
    for name in ("a.svg", "b.svg", "c.txt"):
        (folder / "birds" / name).touch()
    assert problems(folder) == f"{folder}/birds has no image files, but 2 .svg, 1 .txt."


def test_a_link_to_nothing_is_told(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    (folder / "cats" / "broken.png").symlink_to(folder / "nowhere.png")
    (folder / "cats" / "itself.png").symlink_to("itself.png")
    assert f"{folder}/cats/broken.png is a link to nothing." in problems(folder)
    assert f"{folder}/cats/itself.png is a link to nothing." in problems(folder)


def test_what_is_no_file_is_not_opened(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    os.mkfifo(folder / "cats" / "pipe.png")
    assert problems(folder) == f"{folder}/cats/pipe.png is not a file."


def refuse_below(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a folder that may not be listed; of an administrator nothing is hidden."""
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.mark.parametrize("inside", ["", "cats", "cats/deep"])
def test_a_folder_that_may_not_be_listed_is_told(folder: Path, inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_images(folder, ["cats/deep/a.png", "cats/b.png", "dogs/c.png"])
    refuse_below(folder / inside, monkeypatch)
    assert problems(folder).count(f"{folder / inside} cannot be looked into: Permission denied.") == 1


def test_train_beside_a_folder_of_another_name_is_refused_with_what_to_do(folder: Path) -> None:
    fill(folder / "train", {"cats": 2, "dogs": 2})
    fill(folder / "other", {"cats": 2, "dogs": 2})
    assert f"{folder} has train/ but neither test/ nor val/." in problems(folder)
    assert f"data.path={folder / 'train'}" in problems(folder)


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_class_that_is_not_trained_on_is_refused(folder: Path, part: str) -> None:
    fill(folder / "train", {"cats": 2, "dogs": 2, "cows": 2})
    fill(folder / part, {"cats": 2, "birds": 2})
    assert problems(folder) == f"{folder}/train has no folder for birds, which {folder}/{part} has."


@pytest.mark.parametrize("part", ["test", "val"])
@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "empty"])
def test_a_class_without_images_to_test_on_is_reported_and_kept(
    folder: Path, part: str, make: Callable[[Path], None]
) -> None:
    fill(folder / "train", {"cats": 2, "cows": 2, "dogs": 2})
    fill(folder / part, {"cats": 2, "dogs": 2})
    make(folder / part / "cows")
    listing = list_images(folder)
    files = listing.test if part == "test" else listing.validation
    assert (listing.classes, {file.label for file in files}) == (("cats", "cows", "dogs"), {0, 2})
    assert (listing.problems, f"Without images in {part}/: cows." in listing.notes) == ((), True)


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_part_without_any_images_is_refused(folder: Path, part: str) -> None:
    fill(folder / "train", {"cats": 2, "dogs": 2})
    put_images(folder, [f"{part}/a.png"])
    expected = "holds no images in folders of classes. Add them, or remove it."
    assert problems(folder) == f"{folder}/{part} {expected}"


def test_a_class_whose_name_has_control_characters_is_refused(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2, "\x1b[2J": 2})
    assert r"\x1b[2J': a class cannot have this name." in problems(folder)
    assert "\x1b" not in problems(folder)


def test_a_class_whose_name_is_no_text_is_refused(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    (folder / os.fsdecode(b"caf\xe9")).mkdir()
    assert r"caf\udce9': a class cannot have this name." in problems(folder)


# Names


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
    notes = [note for note in listing.notes if note.startswith("A single image")]
    assert name in listing.classes
    assert (name in notes[0], printable(notes[0])) == (True, notes[0])


def test_what_would_turn_the_direction_of_text_is_shown_escaped(folder: Path) -> None:
    listing = list_images(fill(folder, {"cats": 2, "x\u202ey": 1}))
    assert "x\u202ey" in listing.classes
    assert r"'x\u202ey'" in "".join(listing.notes)


def test_one_name_in_two_forms_of_unicode_is_one_class(folder: Path) -> None:
    fill(folder / "train", {COMPOSED: 2, "dogs": 2})
    fill(folder / "test", {DECOMPOSED: 2, "dogs": 2})
    listing = list_images(folder)
    assert (listing.classes, listing.notes) == ((COMPOSED, "dogs"), ())
    assert [file.label for file in listing.test] == [0, 0, 1, 1]


def test_folders_that_differ_in_unicode_form_alone_are_joined(folder: Path) -> None:
    fill(folder, {COMPOSED: 3, DECOMPOSED: 4, "dogs": 2})
    listing = list_images(folder)
    assert [file.label for file in (*listing.train, *listing.test)].count(0) == 7
    assert listing.notes[1].endswith(f"differ in Unicode's form alone are one class: {COMPOSED}.")


def test_unicode_form_does_not_change_the_split(folder: Path, tmp_path: Path) -> None:
    fill(folder, {COMPOSED: 12, "cafz": 12})
    fill(tmp_path / "copy", {DECOMPOSED: 12, "cafz": 12})
    listings = [list_images(each) for each in (folder, tmp_path / "copy")]
    one, other = ([(Path(file.path).name, file.label) for file in listing.test] for listing in listings)
    assert (one, listings[0].classes) == (other, listings[1].classes)


# What people ought to know


def test_a_class_of_one_image_is_reported(folder: Path) -> None:
    notes = list_images(fill(folder, {"cats": 6, "cows": 1, "dogs": 6})).notes
    assert notes[1] == "A single image to train on, and none to hold out: cows."


def test_all_problems_are_told_at_once(folder: Path) -> None:
    fill(folder / "train", {"cats": 2, "dogs": 2})
    fill(folder / "test", {"cats": 2})
    (folder / "train/birds").mkdir()
    fill(folder / "test", {"cows": 2})
    (folder / "test/cats/broken.png").symlink_to("nowhere")
    assert problems(folder).splitlines() == [
        f"There are 3 problems in {folder}:",
        f"  {folder}/test/cats/broken.png is a link to nothing.",
        f"  {folder}/train/birds has no image files.",
        f"  {folder}/train has no folder for cows, which {folder}/test has.",
    ]


def test_of_many_problems_the_first_ten_are_told_and_the_others_counted(folder: Path) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    for number in range(1234):
        (folder / f"empty{number:04d}").mkdir()
    told = problems(folder).splitlines()
    assert (len(told), told[0], told[-1]) == (12, f"There are 1,234 problems in {folder}:", "  and 1,224 more")


Change = Callable[[Path], object]
CHANGES: dict[str, Change] = {
    "another content": lambda path: (path / "cats/000.png").write_bytes((path / "cats/001.png").read_bytes()),
    "one more": lambda path: shutil.copy(path / "cats/000.png", path / "cats/new.png"),
    "one less": lambda path: (path / "cats/000.png").unlink(),
    "another name": lambda path: (path / "cats/000.png").rename(path / "cats/new.png"),
    "another class": lambda path: (path / "cats/000.png").rename(path / "dogs/new.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_listing_is_another_after(folder: Path, change: Change) -> None:
    before = list_images(fill(folder, {"cats": 8, "dogs": 8}))
    assert list_images(folder) == before
    change(folder)
    assert list_images(folder) != before
