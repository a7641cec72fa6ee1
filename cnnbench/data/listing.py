"""The image files in a folder of one's own, by part and class."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cnnbench.data.images import SUFFIXES
from cnnbench.data.kept import Stamp, stamp_of
from cnnbench.data.own import refuse, shown
from cnnbench.errors import DataError

__all__ = ["ImageFile", "Listing", "list_images"]

TEST_NAMES = ("test", "val")  # of the folder beside train/; the first that is there
SET_APART = 6  # where there is none: one in so many images
MOST_KINDS = 5  # of files that are not used, beyond which they are counted together


class ImageFile(NamedTuple):
    path: str  # a Path takes longer to make, and there may be a million
    label: int
    stamp: Stamp


Files = list[tuple[str, Stamp]]
Classes = dict[str, Files]


@dataclass(frozen=True)
class Listing:
    """The files to train on and to test on; `split_here` and `notes` as in `OwnData`."""

    classes: tuple[str, ...]
    train: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...]
    split_here: bool
    notes: tuple[str, ...]


def list_images(folder: Path) -> Listing:
    """The images in `folder`, which has a folder for each class, or train/ and test/ (or val/) that do.

    Classes and files are in the order of their names; what is hidden is passed over. Where no images are apart for
    testing, a sixth of each class is, by a hash of the names: whatever the seed and the file system.

    Raises:
        DataError: all that is wrong there.
    """
    search = _Search(folder)
    train_folder, test_folder = search.parts()
    train = search.classes(train_folder)
    test = None if test_folder is None else search.classes(test_folder)
    if search.problems:
        raise refuse(folder, search.problems)
    _require_classes(train_folder, train, search.unused)
    notes = search.notes()
    if test_folder is not None and test is not None:
        _require_same_classes(train_folder, train, test_folder, test)
    else:
        train, test = _set_apart(folder, train)
        number = sum(map(len, test.values()))
        notes = [f"Set apart for testing: {number:,} images, a sixth of each class, the same with any seed.", *notes]
    return Listing(tuple(train), _labelled(train), _labelled(test), test_folder is None, tuple(notes))


def _labelled(classes: Classes) -> tuple[ImageFile, ...]:
    return tuple(ImageFile(path, label, stamp) for label, files in enumerate(classes.values()) for path, stamp in files)


def _set_apart(folder: Path, classes: Classes) -> tuple[Classes, Classes]:
    """Of each class what is left to train on, and a sixth, at least one image if there are two."""

    def by_hash(file: tuple[str, Stamp]) -> bytes:
        return hashlib.sha256(os.fsencode(Path(file[0]).relative_to(folder).as_posix())).digest()

    train, test = {}, {}
    for name, files in classes.items():
        number = max(int(len(files) > 1), round(len(files) / SET_APART))
        chosen = set(sorted(files, key=by_hash)[:number])
        train[name] = [file for file in files if file not in chosen]
        test[name] = [file for file in files if file in chosen]
    return train, test


def _require_classes(folder: Path, classes: Classes, unused: Sequence[str]) -> None:
    if not classes and any(path.lower().endswith(SUFFIXES) for path in unused):
        raise DataError(
            f"{shown(folder)} holds images, but no folders: the images of each class need one of their own."
        )
    if not classes:
        raise DataError(
            f"{shown(folder)} holds no data set: neither a folder of PNG or JPEG files for each class nor IDX files."
        )
    if len(classes) == 1:
        (name,) = classes
        raise DataError(
            f"{shown(folder)} has a single class, {name}: there is nothing to tell apart. "
            f"If the classes are the folders in it, give data.path={shown(folder / name)}"
        )


def _require_same_classes(train_folder: Path, train: Classes, test_folder: Path, test: Classes) -> None:
    lines = [
        f"{shown(folder)} has no folder for {', '.join(sorted(theirs.keys() - ours.keys()))}."
        for folder, ours, theirs in ((train_folder, train, test), (test_folder, test, train))
        if theirs.keys() - ours.keys()
    ]
    if lines:
        raise DataError("\n".join(["The classes to train on and to test on are not the same.", *lines]))


class _Search:
    """Looks through a folder; remembers what is wrong and what is not used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.unused: list[str] = []

    def parts(self) -> tuple[Path, Path | None]:
        """Where the images to train on lie and, if they are apart, those to test on."""
        entries = self._entries(self.folder)
        inside = {entry.name.lower(): Path(entry) for entry in entries if _is_folder(entry)}
        if "train" not in inside:
            return self.folder, None
        test = next((inside[name] for name in TEST_NAMES if name in inside), None)
        if test is not None:
            others = [entry for entry in entries if Path(entry) not in (inside["train"], test)]
            self.unused += [f"{entry.path}/" if _is_folder(entry) else entry.path for entry in others]
            return inside["train"], test
        if any(_is_folder(entry) for entry in self._entries(inside["train"])):
            raise DataError(
                f"{shown(self.folder)} has train/ but neither test/ nor val/. Rename the folder of the images to test "
                f"on, or give data.path={shown(inside['train'])}, of which a sixth is then set apart for that."
            )
        return self.folder, None

    def classes(self, folder: Path) -> Classes:
        """The image files in and below each folder in `folder`, by its name."""
        classes: Classes = {}
        for entry in self._entries(folder):
            if not _is_folder(entry):
                self.unused.append(entry.path)
            elif not entry.name.isprintable():
                self.problems.append(f"{shown(entry)}: a class cannot have this name.")
            else:
                unused = len(self.unused)
                classes[entry.name] = sorted(self._images(entry.path))
                if not classes[entry.name]:
                    others = f", but {_counts(self.unused[unused:])}" if self.unused[unused:] else ""
                    self.problems.append(f"{shown(entry)} has no PNG or JPEG files{others}.")
        return classes

    def _images(self, folder: str) -> Iterator[tuple[str, Stamp]]:
        waiting, seen = [folder], set()
        while waiting:
            inside = waiting.pop()
            status = Path(inside).stat()
            if (status.st_dev, status.st_ino) in seen:  # a link back
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in self._entries(inside):
                if _is_folder(entry):
                    waiting.append(entry.path)
                elif not entry.name.lower().endswith(SUFFIXES):
                    self.unused.append(entry.path)
                elif (stamp := self._stamp(entry)) is not None:
                    yield entry.path, stamp

    def _stamp(self, entry: "os.DirEntry[str]") -> Stamp | None:
        """The stamp of a file, or None and one problem more."""
        try:
            status = entry.stat()
        except OSError as error:
            broken = "is a link to nothing" if entry.is_symlink() else f"cannot be read: {error.strerror}"
            self.problems.append(f"{shown(entry)} {broken}.")
            return None
        if not stat.S_ISREG(status.st_mode):
            self.problems.append(f"{shown(entry)} is not a file.")
            return None
        return stamp_of(status)

    def _entries(self, folder: Path | str) -> "list[os.DirEntry[str]]":
        """What is in a folder, in the order of the names, but for what is hidden."""
        try:
            with os.scandir(folder) as entries:
                return sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
        except OSError as error:
            self.problems.append(f"{shown(folder)} cannot be looked into: {error.strerror}.")
            return []

    def notes(self) -> list[str]:
        if not self.unused:
            return []
        example = shown(Path(self.unused[0]).relative_to(self.folder))
        return [f"Not used: {_counts(self.unused)}, such as {example}. Images are PNG or JPEG files of a class."]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _counts(paths: Sequence[str]) -> str:
    """How many files there are of each kind: 12 .gif, 1 .txt, 2 others."""
    kinds = Counter("folder" if path.endswith("/") else shown(Path(path).suffix.lower()) for path in paths)
    told = [(kind, number) for kind, number in kinds.most_common(MOST_KINDS) if kind]
    others = len(paths) - sum(number for _, number in told)
    return ", ".join(f"{number:,} {kind}" for kind, number in [*told, *([("other", others)] if others else [])])
