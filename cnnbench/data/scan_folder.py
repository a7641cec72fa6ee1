"""List the image files of a folder by part (train, validation, test) and by class."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cnnbench.data.cache import Fingerprint, file_fingerprint
from cnnbench.errors import DataError, format_count, is_harmless

__all__ = [
    "FolderScan",
    "ImageFile",
    "Listing",
    "escape_name",
    "find_test_folder",
    "list_images",
    "normalize_class_name",
]

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
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot"),  # NAS systems
}

PARTS = TRAIN, VALIDATE, TEST = "train", "validate", "test"
PART_OF_WORD = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), VALIDATE),
    **dict.fromkeys(("test", "testing", "tst"), TEST),
}
PART = re.compile(rf"({'|'.join(PART_OF_WORD)})(set|data|images?|imgs?)?")  # matches trainset
# Splits TrainSet into two words, and takes the word val from val2017.
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")

TEST_FRACTION = 1 / 6  # share of each class that is split off if there is no test part
MAX_NAMES = 5  # names listed in a message
# A scan stops after this many files and folders if fewer than this share of them are images.
MAX_ENTRIES_WITHOUT_IMAGES = 20_000
MIN_IMAGE_SHARE = 0.02


class ImageFile(NamedTuple):
    path: str  # not a Path, which is slower to create for a million files
    fingerprint: Fingerprint


Classes = dict[str, list[ImageFile]]
Contents = tuple[Sequence[str], Sequence[str]]  # names of folders, names of files


class Listing(NamedTuple):
    """The image files of each part by class name; parts may lack classes.

    If `split_here` is true, the test part was split off the training images. `notes` are to be
    printed. If there are `problems`, the folder is not a data set, and the files may be incomplete.
    `broken_links` maps paths to those of the problems that such a file causes.
    """

    train: Classes
    validation: Classes
    test: Classes
    split_here: bool
    notes: list[str]
    problems: list[str]
    broken_links: dict[str, str]


def list_images(folder: Path, skipped: Collection[str] = ()) -> Listing:
    """List the images in `folder`, which has a folder for each class, or parts that have them.

    Classes and files are sorted by name. If there is no test part, a sixth of each class is split
    off for testing, by a hash of the names. So seed and file system do not change the split.
    Files whose paths are in `skipped` are treated as if they did not exist.

    Raises:
        DataError: the folder is not a data set.
    """
    scan = FolderScan(folder, skipped)
    places = _find_parts(scan)
    parts = {part: scan.find_classes(place) for part, place in places.items()}
    notes = _check_classes(scan, places, parts)
    names = {part: place.relative_to(folder).as_posix() for part, place in places.items()}
    if len(names) > 1 and not {name.lower() for name in names.values()} <= PART_OF_WORD.keys():
        named = format_names([f"{name} to {part} on" for part, name in names.items()])
        notes.insert(0, f"Parts: {named}.")
    train, validation, test = (parts.get(part, {}) for part in PARTS)
    single = [name for name, files in train.items() if len(files) == 1]
    if single:
        notes.append(f"Only one image to train on, none to split off: {format_names(single)}.")
    if TEST not in places:
        train, test = _split_off_test(places[TRAIN], train)
        number = sum(map(len, test.values()))
        apart = f"Set apart for testing: {format_count(number, 'image')}, a sixth of each class"
        notes.insert(0, f"{apart}, the same with any seed.")
    if scan.unused:
        unused = format_names([os.path.relpath(path, folder) for path in scan.unused])
        notes.append(f"Not used: {unused}. Images are {FORMATS} files of a class.")
    problems = [*scan.broken_links.values(), *scan.problems]
    split_here = TEST not in places
    return Listing(train, validation, test, split_here, notes, problems, scan.broken_links)


def find_test_folder(folder: Path) -> Path | None:
    """Return the test part of `folder`, or None if it has none."""
    try:
        return _find_parts(FolderScan(folder)).get(TEST)
    except DataError:
        return None


@dataclass
class FolderScan:
    """Scan of a folder that collects `problems` and the paths of `unused` files."""

    folder: Path
    skipped: Collection[str] = ()  # paths of files to ignore
    problems: list[str] = field(default_factory=list)
    broken_links: dict[str, str] = field(default_factory=dict)  # a problem by path
    unused: list[str] = field(default_factory=list)
    num_entries: int = 0
    num_images: int = 0

    def list_names(self, folder: Path) -> Contents:
        """Return the names of the visible folders and files in `folder`."""
        _, folders, files = next(os.walk(folder, onerror=self._report), ("", [], []))
        return _select_visible(folders), _select_visible(files)

    def walk(self, folder: Path) -> Iterator[str]:
        """Yield the visible files in a folder and below it; files come before folders.

        Links to folders are followed, but each folder is visited once.

        Raises:
            DataError: there are many files and folders, but hardly any images.
        """
        seen = set(folder.resolve().parents)  # skip links to these, which lead to other classes
        for place, folders, names in os.walk(folder, onerror=self._report, followlinks=True):
            target = Path(place).resolve()
            if target in seen:
                folders.clear()
                continue
            seen.add(target)
            folders[:] = _select_visible(folders)
            files = [f"{place}/{name}" for name in _select_visible(names)]
            self.num_entries += len(folders) + len(files)
            self.num_images += sum(map(is_image, files))
            has_images = self.num_images >= MIN_IMAGE_SHARE * self.num_entries
            if self.num_entries > MAX_ENTRIES_WITHOUT_IMAGES and not has_images:
                raise DataError(
                    f"{escape_name(self.folder)} is not a folder of images: {self.num_images:,} of "
                    f"the first {self.num_entries:,} files and folders in it are. "
                    "Name the folder that holds the images alone."
                )
            yield from files

    def find_classes(self, folder: Path) -> Classes:
        """Return the image files of each class, one for each folder in `folder`."""
        classes: Classes = {}
        folders, files = self.list_names(folder)
        self.unused += [f"{folder}/{name}" for name in files]
        for folder_name in folders:
            place = folder / folder_name
            name = normalize_class_name(folder_name)
            if name is None:
                self.problems.append(
                    f"{escape_name(place)}: a class cannot have this name. Rename it."
                )
                continue
            images = classes.setdefault(name, [])
            for path in self.walk(place):
                if path in self.skipped:
                    continue
                if not is_image(path):
                    self.unused.append(path)
                elif fingerprint := file_fingerprint(Path(path)):
                    images.append(ImageFile(path, fingerprint))
                else:
                    problem = f"{escape_name(path)} is a broken link, or not a file."
                    self.broken_links[path] = problem
            images.sort(key=lambda image: (_to_nfc(image.path), image.path))
        return classes

    def _report(self, error: OSError) -> None:
        self.problems.append(
            f"{escape_name(error.filename)} cannot be looked into: {error.strerror}."
        )


def is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def escape_name(path: "str | os.PathLike[str]") -> str:
    """Return a name for messages; escape it if it has characters that control a terminal."""
    name = os.fspath(path)
    return name if all(map(is_harmless, name)) else ascii(name)


def format_names(names: Sequence[str]) -> str:
    """Return the first names for a message, and the number of the others."""
    others = len(names) - MAX_NAMES
    named = ", ".join(map(escape_name, names[:MAX_NAMES]))
    return f"{named} and {others:,} more" if others > 0 else named


def normalize_class_name(name: str) -> str | None:
    """Return the name of a class in NFC, or None if it has control characters or is not text."""
    categories = set(map(unicodedata.category, name))
    return _to_nfc(name) if categories.isdisjoint(("Cc", "Cs")) else None


def _to_nfc(text: str) -> str:
    """Return the text in Unicode's composed form, because systems encode accents differently."""
    return unicodedata.normalize("NFC", text)


def _select_visible(names: Iterable[str]) -> list[str]:
    """Return the sorted names, without hidden files and system files."""
    visible = [name for name in names if name[0] != "." and name.lower() not in SYSTEM_NAMES]
    return sorted(visible, key=lambda name: (_to_nfc(name), name))


def _find_parts(scan: FolderScan) -> dict[str, Path]:
    """Return the folder of each part, at least of TRAIN; other files and folders are unused.

    Parts are recognized by their names, such as train and val, Training and Testing, seg_train and
    seg_test. If no training part with folders of classes exists, the folder itself is TRAIN.

    Raises:
        DataError: two folders have the name of one part, or parts are incomplete.
    """
    folders, files = scan.list_names(scan.folder)
    named = {name: part for name in folders if (part := _parse_part(name)) is not None}
    inside = {name: scan.list_names(scan.folder / name) for name in named}
    places = {name: part for name, part in named.items() if inside[name][0]}
    found = set(places.values())
    places |= {name: part for name, part in named.items() if part not in found}
    parts = {part: scan.folder / name for name, part in places.items()}
    if TRAIN not in found or (len(parts) == 1 and len(folders) > 1):
        _check_not_parts(scan.folder, folders, named, inside)
        return {TRAIN: scan.folder}
    if len(parts) < len(places):
        names = format_names(list(places))
        raise DataError(f"{escape_name(scan.folder)} has {names}, two for one part. Rename one.")
    others = [name for name in (*files, *folders) if name not in places]
    scan.unused += [f"{scan.folder}/{name}" for name in others]
    for name, part in places.items():
        inner, _ = inside[name]
        if len(inner) == 1 and _parse_part(inner[0]) == part:  # seg_train/seg_train
            parts[part] /= inner[0]
    return parts


def _parse_part(name: str) -> str | None:
    """Return the part that a name stands for, such as TRAIN for seg_train and TrainSet."""
    matches = [match for word in WORD.findall(name) if (match := PART.fullmatch(word.lower()))]
    return PART_OF_WORD[matches[0][1]] if len(matches) == 1 else None


def _check_not_parts(
    folder: Path, folders: Sequence[str], named: Mapping[str, str], inside: Mapping[str, Contents]
) -> None:
    """Check that folders which are named like parts, but incomplete, can be classes.

    Raises:
        DataError: all folders are named like parts, or one has classes that are also beside it, or
            one is called train and has only folders.
    """
    are_parts = len(set(named.values())) > 1 and len(named) == len(folders)
    for name, part in named.items():
        inner, files = inside[name]
        is_beside_classes = len(set(inner).intersection(folders)) > 1
        is_train = part == TRAIN and PART.fullmatch(name.lower())
        has_only_folders = bool(inner) and not any(map(is_image, files))
        if are_parts or is_beside_classes or (is_train and has_only_folders):
            raise DataError(
                f"{escape_name(folder)} has {format_names(list(named))}, but not train/ and test/ "
                "or val/, each with a folder for each class. Move or rename folders. To have a "
                "sixth of the images set apart for testing, give "
                f"data.path={escape_name(folder / name)}."
            )


def _check_classes(
    scan: FolderScan,
    places: Mapping[str, Path],
    parts: Mapping[str, Classes],
) -> list[str]:
    """Add missing classes to the problems; return notes on classes without test images.

    A class may lack validation or test images, but not training images.

    Raises:
        DataError: there are fewer than two classes to train on.
    """
    train, notes = parts[TRAIN], []
    train_place = escape_name(places[TRAIN])
    for part, classes in parts.items():
        place = escape_name(places[part])
        unknown = format_names([name for name in classes if name not in train])
        empty = format_names([name for name in train if not classes.get(name)])
        if unknown:
            problem = f"{train_place} has no folder for {unknown}, which {place} has."
            scan.problems.append(problem)
        elif empty and (part == TRAIN or not any(classes.values())):
            readable = "readable " if scan.skipped else ""
            scan.problems.append(f"{place} has no {readable}{FORMATS} files for {empty}.")
        elif empty:
            notes.append(f"Without images in {escape_name(places[part].name)}/: {empty}.")
    if len(train) < 2 and not (scan.problems or scan.broken_links):
        found = format_names(list(train)) or "no folders"
        raise DataError(
            f"{train_place} has {found}, and at least two folders are needed, one for each class. "
            "Give data.path=DIR with the folder that has them, or with files of an IDX data set."
        )
    return notes


def _split_off_test(folder: Path, classes: Classes) -> tuple[Classes, Classes]:
    """Split a sixth of each class off for testing, but at least one image of two or more.

    Returns the training and the test images of each class.
    """

    def hash_name(file: ImageFile) -> bytes:
        name = _to_nfc(Path(file.path).relative_to(folder).as_posix())
        return hashlib.sha256(os.fsencode(name)).digest()

    train, test = {}, {}
    for name, files in classes.items():
        number = max(int(len(files) > 1), round(len(files) * TEST_FRACTION))
        selected = set(sorted(files, key=hash_name)[:number])
        train[name] = [file for file in files if file not in selected]
        test[name] = [file for file in files if file in selected]
    return train, test
