"""Look through a folder of images: skip what systems leave there, stop if there are no images."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnnbench.data.images import SUFFIXES
from cnnbench.data.own import nfc, shown
from cnnbench.errors import DataError

__all__ = ["FolderScan", "is_folder", "is_image", "name_some"]

SYSTEM_NAMES = {
    *("__macosx", "__pycache__", "icon\r", "lost+found"),
    *("$recycle.bin", "recycler", "system volume information"),
    *("desktop.ini", "thumbs.db", "ehthumbs.db"),
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot"),  # network disks
}

MAX_NAMED = 5  # names in a message
MAX_ENTRIES_WITHOUT_IMAGES = 20_000  # files and folders after which there must be images among them
MIN_IMAGE_SHARE = 0.02  # of all files and folders


class FolderScan:
    """Looks through `folder`; collects `problems`, and the names that are `passed_over`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.passed_over: dict[str, None] = {}  # in order
        self.num_entries = 0
        self.num_images = 0

    def entries(self, folder: Path | str) -> "list[os.DirEntry[str]]":
        """Return what is in a folder, by name, without what is hidden or a system's."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: (nfc(entry.name), entry.name))
        except OSError as error:
            self.problems.append(f"{shown(folder)} cannot be looked into: {error.strerror}.")
            return []
        visible = []
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES:
                self.passed_over["._*" if entry.name.startswith("._") else entry.name] = None
            else:
                visible.append(entry)
        return visible

    def files(self, folder: Path | str) -> "Iterator[os.DirEntry[str]]":
        """Yield the files in a folder and below, those of each folder before those of its folders.

        Links to folders are followed, each folder once.

        Raises:
            DataError: there are many files and folders, and hardly an image among them.
        """
        waiting = [os.fspath(folder)]
        above = [parent.stat() for parent in Path(folder).resolve().parents]
        seen = {(status.st_dev, status.st_ino) for status in above}  # a link there leads to other classes
        while waiting:
            inside = waiting.pop()
            try:
                status = Path(inside).stat()
            except OSError as error:  # it was there a moment ago
                self.problems.append(f"{shown(inside)} cannot be looked into: {error.strerror}.")
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = self.entries(inside)
            folders = [entry.path for entry in entries if is_folder(entry)]
            waiting += reversed(folders)
            self._count(entries)
            yield from (entry for entry in entries if not is_folder(entry))

    def _count(self, entries: "Sequence[os.DirEntry[str]]") -> None:
        self.num_entries += len(entries)
        self.num_images += sum(is_image(entry.name) for entry in entries)
        least = MIN_IMAGE_SHARE * self.num_entries
        if self.num_entries > MAX_ENTRIES_WITHOUT_IMAGES and self.num_images < least:
            raise DataError(
                f"{shown(self.folder)} is no folder of images: of the first {self.num_entries:,} "
                f"files and folders in it {self.num_images:,} are images. Name the folder that "
                "holds the images alone."
            )


def is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def name_some(names: Sequence[str]) -> str:
    """Return the names for people: cats, dogs; of many the first and the number of the others."""
    others = len(names) - MAX_NAMED
    named = ", ".join(shown(name) for name in names[:MAX_NAMED])
    return f"{named} and {others:,} more" if others > 0 else named
