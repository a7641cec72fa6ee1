"""The parts of a folder of images: which of its folders are to train, to validate and to test on."""

import os
import re
from pathlib import Path

from cnnbench.data.own import shown
from cnnbench.data.scan_folder import FolderScan, is_folder, is_image, name_some
from cnnbench.errors import DataError

__all__ = ["TEST", "TRAIN", "VALIDATION", "find_parts", "find_test_folder"]

TRAIN, VALIDATION, TEST = "train", "validation", "test"

_KINDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
_PART = re.compile(rf"({'|'.join(_KINDS)})(set|data|images?|imgs?)?")  # trainset is train
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")  # TrainSet is two words, val2017 is one

Group = list[tuple[str, "os.DirEntry[str]"]]


def find_parts(scan: FolderScan) -> tuple[dict[str, Path], list[str]]:
    """Return the folder of each part, that of TRAIN at least, and what lies beside them.

    Without parts the folder itself is the one to train on. Parts are known by their names, such as train and val,
    Training and Testing, seg_train and seg_test, if there are folders in them: classes may be called so too.

    Raises:
        DataError: there are parts, but none to train on, or two of a kind, or train/ beside what has another name.
    """
    entries = scan.entries(scan.folder)
    group = _choose(scan, [entry for entry in entries if is_folder(entry)])
    if not group:
        return {TRAIN: scan.folder}, []
    used = {entry.path for _, entry in group}
    beside = [f"{entry.path}/" if is_folder(entry) else entry.path for entry in entries if entry.path not in used]
    return {kind: _unwrap(scan, entry, kind) for kind, entry in group}, beside


def find_test_folder(folder: Path) -> Path | None:
    """Return the folder in `folder` whose images are for testing alone, if there is one."""
    try:
        return find_parts(FolderScan(folder))[0].get(TEST)
    except DataError:
        return None


def _choose(scan: FolderScan, folders: "list[os.DirEntry[str]]") -> Group:
    """Return the folders that are parts, each with its kind; none if all are classes."""
    by_rest: dict[str, Group] = {"": []}  # those that share the rest of their names, such as seg_
    for entry in folders:
        kind, rest = _read_name(entry.name)
        if kind:
            by_rest.setdefault(rest, []).append((kind, entry))
    every = [part for group in by_rest.values() for part in group]
    only_parts = len(every) == len(folders)
    groups = [group for group in ([every] if only_parts else []) + [*by_rest.values()] if _num_kinds(group) > 1]
    split = [group for group in groups if any(kind == TRAIN and _holds_folders(scan, entry) for kind, entry in group)]
    for group in split:
        if _num_kinds(group) == len(group):
            return group
    if split:
        twice = [entry.name for kind, entry in split[0] if sum(kind == other for other, _ in split[0]) > 1]
        raise DataError(f"{shown(scan.folder)} has {name_some(twice)}: both are one part. Rename one.")
    if only_parts and groups and TRAIN not in dict(every) and all(_is_split(scan, entry) for _, entry in every):
        names = " and ".join(f"{shown(entry.name)}/" for _, entry in every)
        raise DataError(f"{shown(scan.folder)} has {names}, but no train/ with images to train on.")
    plain = {entry.name.lower() for entry in folders}
    if {"train"} < plain <= {"train", "val", "test"}:
        return every  # all images lie in them without folders of classes: the caller reports it
    return _lone_train(scan, folders, by_rest[""])


def _lone_train(scan: FolderScan, folders: "list[os.DirEntry[str]]", plain: Group) -> Group:
    """Return the part to train on if it is the only folder."""
    train = [part for part in plain if part[0] == TRAIN and _is_split(scan, part[1])]
    if len(folders) > 1 and any(entry.name.lower() == "train" for _, entry in train):
        raise DataError(
            f"{shown(scan.folder)} has train/ but neither test/ nor val/. Rename the folder of the images to test "
            f"on, or give data.path={shown(train[0][1])}, of which a sixth is then set apart for that."
        )
    return train if len(folders) == 1 else []


def _read_name(name: str) -> tuple[str, str]:
    """Return the part that a folder is named for, or "", and the rest of the name."""
    words = [word.lower() for word in _WORD.findall(name)]
    parts = [word for word in words if _PART.fullmatch(word)]
    if len(parts) != 1:
        return "", ""
    words.remove(parts[0])
    match = _PART.fullmatch(parts[0])
    assert match is not None
    return _KINDS[match[1]], " ".join(words)


def _num_kinds(group: Group) -> int:
    return len({kind for kind, _ in group})


def _holds_folders(scan: FolderScan, folder: "os.DirEntry[str]") -> bool:
    return any(is_folder(entry) for entry in scan.entries(folder.path))


def _is_split(scan: FolderScan, folder: "os.DirEntry[str]") -> bool:
    """Return whether there are folders and no images in it."""
    entries = scan.entries(folder.path)
    files = [entry for entry in entries if not is_folder(entry)]
    return len(files) < len(entries) and not any(is_image(entry.name) for entry in files)


def _unwrap(scan: FolderScan, folder: "os.DirEntry[str]", kind: str) -> Path:
    """Return the folder or, if all that it holds is one of the same kind, that one: seg_train/seg_train."""
    inside = [entry for entry in scan.entries(folder.path) if is_folder(entry)]
    doubled = len(inside) == 1 and _read_name(inside[0].name)[0] == kind
    return Path(inside[0] if doubled else folder)
