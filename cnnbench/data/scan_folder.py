"""List the image files of a folder by part (train, validation, test) and by class."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cnnbench.data.cache import Fingerprint, file_fingerprint
from cnnbench.errors import DataError, format_count, is_harmless

__all__ = ["FolderScan", "ImageFile", "class_name", "find_test_folder", "list_images", "shown"]

FORMAT_OF_SUFFIX = {
    **dict.fromkeys((".jpeg", ".jpg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **{".png": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP"},
}
SUFFIXES = tuple(FORMAT_OF_SUFFIX)
FORMATS = "PNG, JPEG, WebP, GIF, BMP or TIFF"
SYSTEM_NAMES = {
    *("__macosx", "__pycache__", "icon\r", "lost+found"),
    *("$recycle.bin", "recycler", "system volume information"),
    *("desktop.ini", "thumbs.db", "ehthumbs.db"),
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot"),  # network disks
}

PARTS = TRAIN, VALIDATE, TEST = "train", "validate", "test"  # what images are for
PART_OF_WORD = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), VALIDATE),
    **dict.fromkeys(("test", "testing", "tst"), TEST),
}
PART = re.compile(rf"({'|'.join(PART_OF_WORD)})(set|data|images?|imgs?)?")  # trainset is train
# TrainSet is two words, val2017 is one
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")

TEST_FRACTION = 1 / 6  # of each class, set apart if there is no test part
MAX_NAMED = 5  # names in a message
MAX_ENTRIES_WITHOUT_IMAGES = 20_000  # files and folders
MIN_IMAGE_SHARE = 0.02  # of so many files and folders


class ImageFile(NamedTuple):
    path: str  # a Path takes longer to make, and there may be a million
    fingerprint: Fingerprint


Classes = dict[str, list[ImageFile]]
Contents = tuple[Sequence[str], Sequence[str]]  # names of folders and of files


class Listing(NamedTuple):
    """The image files of each class of each part, by name; parts may lack classes.

    If `split_here`, the test part was set apart from the training images. `notes` are for people.
    With `problems` the folder is no data set; the files are those that were found all the same.
    """

    train: Classes
    validation: Classes
    test: Classes
    split_here: bool
    notes: list[str]
    problems: list[str]


def list_images(folder: Path) -> Listing:
    """List the images in `folder`, which has a folder for each class, or parts that have.

    Classes and files are in the order of their names. Without a test part a sixth of each class
    is set apart, by a hash of the names: the same whatever the seed and the file system.

    Raises:
        DataError: it is no data set.
    """
    scan = FolderScan(folder)
    places = _find_parts(scan)
    parts = {part: scan.find_classes(place) for part, place in places.items()}
    notes = _check_classes(scan, places, parts)
    names = {part: place.relative_to(folder).as_posix() for part, place in places.items()}
    if len(names) > 1 and not {name.lower() for name in names.values()} <= PART_OF_WORD.keys():
        named = name_some([f"{name} to {part} on" for part, name in names.items()])
        notes.insert(0, f"Parts: {named}.")
    train, validation, test = (parts.get(part, {}) for part in PARTS)
    single = [name for name, files in train.items() if len(files) == 1]
    if single:
        notes.append(f"A single image to train on, and none to hold out: {name_some(single)}.")
    if TEST not in places:
        train, test = _set_apart(places[TRAIN], train)
        number = sum(map(len, test.values()))
        apart = f"Set apart for testing: {format_count(number, 'image')}, a sixth of each class"
        notes.insert(0, f"{apart}, the same with any seed.")
    if scan.unused:
        unused = name_some([os.path.relpath(path, folder) for path in scan.unused])
        notes.append(f"Not used: {unused}. Images are {FORMATS} files of a class.")
    return Listing(train, validation, test, TEST not in places, notes, scan.problems)


def find_test_folder(folder: Path) -> Path | None:
    """Return the folder in `folder` whose images are for testing alone, if there is one."""
    try:
        return _find_parts(FolderScan(folder)).get(TEST)
    except DataError:
        return None


@dataclass
class FolderScan:
    """Looks through a folder; collects `problems`, and the paths of files that are `unused`."""

    folder: Path
    problems: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    num_entries: int = 0
    num_images: int = 0

    def names(self, folder: Path) -> Contents:
        """Return the names of the visible folders and files in `folder`."""
        _, folders, files = next(os.walk(folder, onerror=self._report), ("", [], []))
        return _visible(folders), _visible(files)

    def walk(self, folder: Path) -> Iterator[str]:
        """Yield the visible files in a folder and below, those of each before its folders'.

        Links to folders are followed, each folder once.

        Raises:
            DataError: there are many files and folders, and hardly an image among them.
        """
        seen = set(folder.resolve().parents)  # a link to one leads to other classes
        for place, folders, names in os.walk(folder, onerror=self._report, followlinks=True):
            target = Path(place).resolve()
            if target in seen:
                folders.clear()
                continue
            seen.add(target)
            folders[:] = _visible(folders)
            files = [f"{place}/{name}" for name in _visible(names)]
            self.num_entries += len(folders) + len(files)
            self.num_images += sum(map(is_image, files))
            has_images = self.num_images >= MIN_IMAGE_SHARE * self.num_entries
            if self.num_entries > MAX_ENTRIES_WITHOUT_IMAGES and not has_images:
                raise DataError(
                    f"{shown(self.folder)} is no folder of images: {self.num_images:,} of the "
                    f"first {self.num_entries:,} files and folders in it are. "
                    "Name the folder that holds the images alone."
                )
            yield from files

    def find_classes(self, folder: Path) -> Classes:
        """Return the image files in and below each folder in `folder`, by its name."""
        classes: Classes = {}
        folders, files = self.names(folder)
        self.unused += [f"{folder}/{name}" for name in files]
        for folder_name in folders:
            place = folder / folder_name
            name = class_name(folder_name)
            if name is None:
                self.problems.append(f"{shown(place)}: a class cannot have this name. Rename it.")
                continue
            images = classes.setdefault(name, [])
            for path in self.walk(place):
                if not is_image(path):
                    self.unused.append(path)
                elif fingerprint := file_fingerprint(Path(path)):
                    images.append(ImageFile(path, fingerprint))
                else:
                    self.problems.append(f"{shown(path)} is a link to nothing, or not a file.")
            images.sort(key=lambda image: (_nfc(image.path), image.path))
        return classes

    def _report(self, error: OSError) -> None:
        self.problems.append(f"{shown(error.filename)} cannot be looked into: {error.strerror}.")


def is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def shown(path: "str | os.PathLike[str]") -> str:
    """Return a name for people: files may be called by what would steer a terminal."""
    name = os.fspath(path)
    return name if all(map(is_harmless, name)) else ascii(name)


def name_some(names: Sequence[str]) -> str:
    """Return the names for people: cats, dogs; of many the first and the number of the others."""
    others = len(names) - MAX_NAMED
    named = ", ".join(map(shown, names[:MAX_NAMED]))
    return f"{named} and {others:,} more" if others > 0 else named


def class_name(name: str) -> str | None:
    """Return the name of a class in NFC, None if it has control characters or is no text."""
    categories = set(map(unicodedata.category, name))
    return _nfc(name) if categories.isdisjoint(("Cc", "Cs")) else None


def _nfc(text: str) -> str:
    """Return the text in Unicode's composed form: systems write an accent in different ways."""
    return unicodedata.normalize("NFC", text)


def _visible(names: Iterable[str]) -> list[str]:
    """Return the names in order, without those that are hidden or a system's."""
    visible = [name for name in names if name[0] != "." and name.lower() not in SYSTEM_NAMES]
    return sorted(visible, key=lambda name: (_nfc(name), name))


def _find_parts(scan: FolderScan) -> dict[str, Path]:
    """Return the folder of each part, that of TRAIN at least; what is beside them is unused.

    Parts are known by their names, such as train and val, Training and Testing, seg_train and
    seg_test. If none to train on has folders of classes, the folder itself is the one to train on.

    Raises:
        DataError: two folders are one part, or folders are meant as parts and are not complete.
    """
    folders, files = scan.names(scan.folder)
    named = {name: part for name in folders if (part := _part_of(name)) is not None}
    inside = {name: scan.names(scan.folder / name) for name in named}
    places = {name: part for name, part in named.items() if inside[name][0]}
    found = set(places.values())
    places |= {name: part for name, part in named.items() if part not in found}
    parts = {part: scan.folder / name for name, part in places.items()}
    if TRAIN not in found or (len(parts) == 1 and len(folders) > 1):
        _check_no_parts(scan.folder, folders, named, inside)
        return {TRAIN: scan.folder}
    if len(parts) < len(places):
        names = name_some(list(places))
        raise DataError(f"{shown(scan.folder)} has {names}, two for one part. Rename one.")
    others = [name for name in (*files, *folders) if name not in places]
    scan.unused += [f"{scan.folder}/{name}" for name in others]
    for name, part in places.items():
        inner, _ = inside[name]
        if len(inner) == 1 and _part_of(inner[0]) == part:  # seg_train/seg_train
            parts[part] /= inner[0]
    return parts


def _part_of(name: str) -> str | None:
    """Return the part that a folder is named like, such as TRAIN for seg_train and TrainSet."""
    matches = [match for word in WORD.findall(name) if (match := PART.fullmatch(word.lower()))]
    return PART_OF_WORD[matches[0][1]] if len(matches) == 1 else None


def _check_no_parts(
    folder: Path, folders: Sequence[str], named: Mapping[str, str], inside: Mapping[str, Contents]
) -> None:
    """Check that folders named like parts, which are not complete, are classes.

    Raises:
        DataError: all are named like parts, or one has classes that are beside it, too, or one is
            called train and holds folders alone.
    """
    are_parts = len(set(named.values())) > 1 and len(named) == len(folders)
    for name, part in named.items():
        inner, files = inside[name]
        is_beside_classes = len(set(inner).intersection(folders)) > 1
        is_train = part == TRAIN and PART.fullmatch(name.lower())
        has_only_folders = inner and not any(map(is_image, files))
        if are_parts or is_beside_classes or (is_train and has_only_folders):
            raise DataError(
                f"{shown(folder)} has {name_some(list(named))}, but not train/ and test/ or val/, "
                "each with a folder for each class. Move or rename folders or, to have a sixth of "
                f"the images set apart for testing, give data.path={shown(folder / name)}."
            )


def _check_classes(
    scan: FolderScan,
    places: Mapping[str, Path],
    parts: Mapping[str, Classes],
) -> list[str]:
    """Return notes on classes without images to validate or test on; other gaps are problems.

    Raises:
        DataError: there are fewer than two classes to train on.
    """
    train, notes = parts[TRAIN], []
    for part, classes in parts.items():
        place = shown(places[part])
        unknown = name_some([name for name in classes if name not in train])
        empty = name_some([name for name in train if not classes.get(name)])
        if unknown:
            problem = f"{shown(places[TRAIN])} has no folder for {unknown}, which {place} has."
            scan.problems.append(problem)
        elif empty and (part == TRAIN or not any(classes.values())):
            scan.problems.append(f"{place} has no {FORMATS} files for {empty}.")
        elif empty:
            notes.append(f"Without images in {shown(places[part].name)}/: {empty}.")
    if len(train) < 2 and not scan.problems:
        found = name_some(list(train)) or "no folders"
        raise DataError(
            f"{shown(places[TRAIN])} has {found}, and at least two folders are needed, one for "
            "each class. Give data.path=DIR with the folder that has them, or that of the files of "
            "an IDX data set."
        )
    return notes


def _set_apart(folder: Path, classes: Classes) -> tuple[Classes, Classes]:
    """Return what is left of each class to train on, and a sixth, at least one image of two."""

    def hash_name(file: ImageFile) -> bytes:
        name = _nfc(Path(file.path).relative_to(folder).as_posix())
        return hashlib.sha256(os.fsencode(name)).digest()

    train, test = {}, {}
    for name, files in classes.items():
        number = max(int(len(files) > 1), round(len(files) * TEST_FRACTION))
        chosen = set(sorted(files, key=hash_name)[:number])
        train[name] = [file for file in files if file not in chosen]
        test[name] = [file for file in files if file in chosen]
    return train, test
