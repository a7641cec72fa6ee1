"""The image files in a folder of one's own, by part and class."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cnnbench.data.cache import Fingerprint, stat_fingerprint
from cnnbench.data.images import KNOWN
from cnnbench.data.own import class_name, nfc, shown
from cnnbench.data.parts import TEST, TRAIN, VALIDATION, find_parts
from cnnbench.data.scan_folder import FolderScan, is_folder, is_image, name_some
from cnnbench.errors import DataError

__all__ = ["ImageFile", "Listing", "list_images"]

SET_APART = 6  # where there is no test part: one in so many images
MOST_KINDS = 5  # of files that are not used, beyond which they are counted together
USUAL_NAMES = {"train", "val", "valid", "validation", "test"}
TASKS = {TRAIN: "train", VALIDATION: "validate", TEST: "test"}


class ImageFile(NamedTuple):
    path: str  # a Path takes longer to make, and there may be a million
    label: int
    stamp: Fingerprint


Files = list[tuple[str, Fingerprint]]
Classes = dict[str, Files]


@dataclass(frozen=True)
class Listing:
    """The files of each part; `split_here` and `notes` as in `OwnData`.

    `validation_folder` is the name of the folder of `validation`, if there is one. If there are
    `problems`, the files are those that were found all the same.
    """

    classes: tuple[str, ...]
    train: tuple[ImageFile, ...]
    validation: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...]
    validation_folder: str
    split_here: bool
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def list_images(folder: Path) -> Listing:
    """List the images in `folder`, which has a folder for each class, or parts that have.

    Classes and files are in the order of their names. Without a part to test on, a sixth of each
    class is set apart, by a hash of the names: the same whatever the seed and the file system.

    Raises:
        DataError: it is no data set.
    """
    search = _Search(folder)
    folders, search.unused = find_parts(search)
    parts = {kind: search.classes(place) for kind, place in folders.items()}
    train = parts[TRAIN]
    search.require_images(folders[TRAIN], train)
    notes = [*_unusual(folder, folders), *search.compare(folders, parts)]
    notes += search.note_alike(folders[TRAIN])
    single = [name for name, files in train.items() if len(files) == 1]
    if single:
        notes.append(f"A single image to train on, and none to hold out: {name_some(single)}.")
    if TEST not in parts:
        parts[TRAIN], parts[TEST] = _set_apart(folders[TRAIN], train)
        number = sum(map(len, parts[TEST].values()))
        apart = f"Set apart for testing: {number:,} images, a sixth of each class"
        notes.insert(0, f"{apart}, the same with any seed.")
    files = {kind: _label(classes, tuple(train)) for kind, classes in parts.items()}
    return Listing(
        classes=tuple(train),
        train=files[TRAIN],
        validation=files.get(VALIDATION, ()),
        test=files[TEST],
        validation_folder=folders[VALIDATION].name if VALIDATION in folders else "",
        split_here=TEST not in folders,
        notes=(*notes, *search.notes()),
        problems=tuple(search.problems),
    )


def _unusual(folder: Path, folders: Mapping[str, Path]) -> list[str]:
    """Return a note on which folder is which part, if the names are not the usual ones."""
    names = {kind: place.relative_to(folder).as_posix() for kind, place in folders.items()}
    if len(folders) == 1 or {name.lower() for name in names.values()} <= USUAL_NAMES:
        return []
    tasks = [f"{shown(name)}/ to {TASKS[kind]} on" for kind, name in names.items()]
    return [f"Parts: {', '.join(tasks)}."]


def _label(classes: Classes, names: Sequence[str]) -> tuple[ImageFile, ...]:
    """Return the files of a part, labeled by the place of their class in `names`."""
    labeled = [(label, file) for label, name in enumerate(names) for file in classes.get(name, ())]
    return tuple(ImageFile(path, label, stamp) for label, (path, stamp) in labeled)


def _set_apart(folder: Path, classes: Classes) -> tuple[Classes, Classes]:
    """Of each class what is left to train on, and a sixth, at least one image if there are two."""

    def by_hash(file: tuple[str, Fingerprint]) -> bytes:
        name = nfc(Path(file[0]).relative_to(folder).as_posix())
        return hashlib.sha256(os.fsencode(name)).digest()

    train, test = {}, {}
    for name, files in classes.items():
        number = max(int(len(files) > 1), round(len(files) / SET_APART))
        chosen = set(sorted(files, key=by_hash)[:number])
        train[name] = [file for file in files if file not in chosen]
        test[name] = [file for file in files if file in chosen]
    return train, test


class _Search(FolderScan):
    """Finds the images of each class; collects files that are `unused`, and classes `joined`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.unused: list[str] = []
        self.joined: list[str] = []

    def classes(self, folder: Path) -> Classes:
        """The image files in and below each folder in `folder`, by its name."""
        classes: Classes = {}
        for entry in self.entries(folder):
            name = class_name(entry.name)
            if not is_folder(entry):
                self.unused.append(entry.path)
            elif name is None:
                self.problems.append(f"{shown(entry)}: a class cannot have this name. Rename it.")
            else:
                if name in classes and name not in self.joined:
                    self.joined.append(name)
                classes[name] = [*classes.get(name, []), *self._images(entry.path)]
        for files in classes.values():
            files.sort(key=lambda file: (nfc(file[0]), file[0]))
        return classes

    def _images(self, folder: str) -> Files:
        files = []
        for entry in self.files(folder):
            if not is_image(entry.name):
                self.unused.append(entry.path)
            elif (stamp := self._stamp(entry)) is not None:
                files.append((entry.path, stamp))
        return files

    def _stamp(self, entry: "os.DirEntry[str]") -> Fingerprint | None:
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
        return stat_fingerprint(status)

    def require_images(self, folder: Path, classes: Classes) -> None:
        """Check that there is more than one class to train on; a class without images is a problem.

        Raises:
            DataError: there are no classes, or one.
        """
        for name, files in classes.items():
            if not files:
                below = f"{folder / name}{os.sep}"
                inside = [path for path in self.unused if path.startswith(below)]
                others = f", but {_counts(inside)}" if inside else ""
                self.problems.append(f"{shown(folder / name)} has no image files{others}.")
        place = shown(folder)
        if self.problems:
            return
        if not classes and any(map(is_image, self.unused)):
            raise DataError(f"{place} holds images, but no folders: each class needs its own.")
        if not classes:
            raise DataError(f"{place} holds no data set: neither folders of images nor IDX files.")
        if len(classes) == 1:
            (name,) = classes
            raise DataError(
                f"{place} has a single class, {shown(name)}: there is nothing to tell apart. "
                f"If the classes are the folders in it, give data.path={shown(folder / name)}"
            )

    def note_alike(self, folder: Path) -> list[str]:
        """Return a note if all classes hold the same folders: they, or those, may be parts."""
        classes = [entry.path for entry in self.entries(folder) if is_folder(entry)]
        names: Counter[str] = Counter()
        for path in classes:
            names.update(entry.name for entry in self.entries(path) if is_folder(entry))
        shared = [name for name, number in names.items() if number == len(classes)]
        if len(shared) < 2:
            return []
        together = f"Each class holds folders of the same names, taken together: {name_some(shared)}"
        return [f"{together}. Parts must be called train/, val/ and test/, and hold the classes."]

    def compare(self, folders: Mapping[str, Path], parts: Mapping[str, Classes]) -> list[str]:
        """Compare the classes of the validation and the test part to the training classes.

        A class that is not trained on is a problem. Returns notes on classes without images.
        """
        train, notes = parts[TRAIN], []
        for kind in [kind for kind in parts if kind != TRAIN]:
            classes, place = parts[kind], shown(folders[kind])
            unknown = name_some([name for name in classes if name not in train])
            without = name_some([name for name in train if not classes.get(name)])
            if not any(classes.values()):
                problem = "holds no images in folders of classes. Add them, or remove it."
                self.problems.append(f"{place} {problem}")
            elif unknown:
                problem = f"has no folder for {unknown}, which {place} has."
                self.problems.append(f"{shown(folders[TRAIN])} {problem}")
            elif without:
                notes.append(f"Without images in {shown(folders[kind].name)}/: {without}.")
        return notes

    def notes(self) -> list[str]:
        notes = []
        if self.joined:
            joined = "Folders whose names differ in Unicode's form alone are one class"
            notes.append(f"{joined}: {name_some(self.joined)}.")
        if self.unused:
            example = shown(Path(self.unused[0]).relative_to(self.folder))
            unused = f"Not used: {_counts(self.unused)}, such as {example}."
            notes.append(f"{unused} Images are {KNOWN} files of a class.")
        if self.passed_over:
            notes.append(f"Passed over: {name_some(list(self.passed_over))}.")
        return notes


def _counts(paths: Sequence[str]) -> str:
    """How many files there are of each kind: 12 .svg, 1 .txt, 2 others."""
    kinds = Counter("folder" if path.endswith("/") else shown(Path(path).suffix.lower()) for path in paths)
    told = [(kind, number) for kind, number in kinds.most_common(MOST_KINDS) if kind]
    others = len(paths) - sum(number for _, number in told)
    return ", ".join(f"{number:,} {kind}" for kind, number in [*told, *([("other", others)] if others else [])])
