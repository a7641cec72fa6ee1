"""Which folders in a folder of images are its parts: to train on, to validate on and to test on."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cnnbench.data.own import nfc, shown
from cnnbench.data.scan_folder import FolderScan, is_folder, is_image, name_some
from cnnbench.errors import DataError

__all__ = ["TEST", "TRAIN", "VALIDATION", "find_parts", "find_test_folder"]

TRAIN, VALIDATION, TEST = "train", "validation", "test"

_KINDS = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst"), TEST),
}
_PART = re.compile(rf"({'|'.join(_KINDS)})(set|data|images?|imgs?)?")  # trainset is train
# TrainSet is two words, val2017 is one
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")


_Entries = Sequence["os.DirEntry[str]"]


class _Part(NamedTuple):
    """A folder that is named like a part; `rest` is what else is in its name, such as seg."""

    kind: str
    rest: str
    folder: "os.DirEntry[str]"


def find_parts(scan: FolderScan) -> tuple[dict[str, Path], list[str]]:
    """Return the folder of each part, that of TRAIN at least, and the paths of what is beside them.

    Parts are known by their names, such as train and val, Training and Testing, seg_train and
    seg_test. Folders that hold no folders are classes, whatever their names. Without parts the
    folder itself is the one to train on.

    Raises:
        DataError: no part is to train on, one is there twice, or the only one is beside classes.
    """
    entries = scan.entries(scan.folder)
    parts = _choose_parts(scan, [entry for entry in entries if is_folder(entry)])
    if not parts:
        return {TRAIN: scan.folder}, []
    used = {part.folder.path for part in parts}
    beside = [entry for entry in entries if entry.path not in used]
    paths = [f"{entry.path}/" if is_folder(entry) else entry.path for entry in beside]
    return {part.kind: _unwrap(scan, part) for part in parts}, paths


def find_test_folder(folder: Path) -> Path | None:
    """Return the folder in `folder` whose images are for testing alone, if there is one."""
    try:
        return find_parts(FolderScan(folder))[0].get(TEST)
    except DataError:
        return None


def _choose_parts(scan: FolderScan, folders: _Entries) -> list[_Part]:
    """Return the folders that are parts; none if all are classes."""
    parts = [part for folder in folders if (part := _read_name(folder)) is not None]
    _require_train(scan, folders, parts)
    groups = _group(parts)
    if len(parts) == len(folders):  # together they are parts, however they are named
        groups.insert(0, parts)
    elif _share_classes(scan, parts):
        groups.append(parts)
    groups = [group for group in groups if len(_count_kinds(group)) > 1]
    trained = [group for group in groups if _holds_classes_to_train_on(scan, group)]
    for group in trained:
        if max(_count_kinds(group).values()) == 1:
            return group
    if trained:
        counts = _count_kinds(trained[0])
        twice = [part.folder.name for part in trained[0] if counts[part.kind] > 1]
        raise DataError(f"{shown(scan.folder)} has {name_some(twice)} for one part. Rename one.")
    if {"train"} < {folder.name.lower() for folder in folders} <= {"train", "val", "test"}:
        return parts  # the images lie in them without folders of classes: the caller says so
    return _find_lone_train(scan, len(folders), parts)


def _group(parts: list[_Part]) -> list[list[_Part]]:
    """Return the parts by the rest of their names, plain names first."""
    rests = sorted({part.rest for part in parts})
    return [[part for part in parts if part.rest == rest] for rest in rests]


def _require_train(scan: FolderScan, folders: _Entries, parts: list[_Part]) -> None:
    """Check that parts to validate or to test on are not alone, nor beside their own classes."""
    if TRAIN in _count_kinds(parts):
        return
    names = {nfc(folder.name) for folder in folders}
    for part in parts:
        inside = [entry for entry in scan.entries(part.folder.path) if is_folder(entry)]
        twice = [entry.name for entry in inside if nfc(entry.name) in names]
        if len(twice) > 1:
            where = f"{name_some(twice)} in {shown(part.folder.name)}/ and beside it"
            raise DataError(f"{shown(scan.folder)} has {where}. Move those to train on to train/.")
    split = [part for part in parts if _holds_only_folders(scan, part)]
    if len(_count_kinds(split)) > 1 and len(split) == len(folders):
        all_parts = " and ".join(f"{shown(part.folder.name)}/" for part in parts)
        raise DataError(f"{shown(scan.folder)} has {all_parts}, but no train/ to train on.")


def _find_lone_train(scan: FolderScan, num_folders: int, parts: list[_Part]) -> list[_Part]:
    """Return the part to train on if it is the only folder."""
    plain = [part for part in parts if (part.kind, part.rest) == (TRAIN, "")]
    train = [part for part in plain if _holds_only_folders(scan, part)]
    if num_folders == 1:
        return train
    if any(part.folder.name.lower() == "train" for part in train):
        raise DataError(
            f"{shown(scan.folder)} has train/ but neither test/ nor val/. Rename the folder of the "
            f"images to test on, or give data.path={shown(train[0].folder)}, of which a sixth is "
            "then set apart for that."
        )
    return []


def _read_name(folder: "os.DirEntry[str]") -> _Part | None:
    """Return the part that a folder is named like, if it is one."""
    words = [word.lower() for word in _WORD.findall(folder.name)]
    matches = [match for word in words if (match := _PART.fullmatch(word))]
    if len(matches) != 1:
        return None
    words.remove(matches[0][0])
    return _Part(_KINDS[matches[0][1]], " ".join(words), folder)


def _count_kinds(parts: list[_Part]) -> Counter[str]:
    return Counter(part.kind for part in parts)


def _holds_classes_to_train_on(scan: FolderScan, parts: list[_Part]) -> bool:
    entries = [scan.entries(part.folder.path) for part in parts if part.kind == TRAIN]
    return any(is_folder(entry) for found in entries for entry in found)


def _share_classes(scan: FolderScan, parts: list[_Part]) -> bool:
    """Return whether two or more folders are both in parts to train on and in other parts."""
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for part in parts:
        folders = [entry for entry in scan.entries(part.folder.path) if is_folder(entry)]
        names[part.kind == TRAIN].update(nfc(folder.name) for folder in folders)
    return len(names[True] & names[False]) > 1


def _holds_only_folders(scan: FolderScan, part: _Part) -> bool:
    """Return whether there are folders in a part, and no images beside them."""
    entries = scan.entries(part.folder.path)
    files = [entry for entry in entries if not is_folder(entry)]
    return len(files) < len(entries) and not any(is_image(entry.name) for entry in files)


def _unwrap(scan: FolderScan, part: _Part) -> Path:
    """Return the folder of a part, or the only one in it that is the same: seg_train/seg_train."""
    inside = [entry for entry in scan.entries(part.folder.path) if is_folder(entry)]
    same = [entry for entry in inside if (found := _read_name(entry)) and found.kind == part.kind]
    return Path(same[0] if len(inside) == len(same) == 1 else part.folder)
