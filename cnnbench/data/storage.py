"""Finding the files of a data set of the catalog, and their content.

A file is looked for in the cache, then in the folders of CNNBENCH_DATA, then in system folders, and
then fetched into the cache. It is used only if the SHA-256 of its content is the known one: mirrors
recompress, and Fashion-MNIST's files bear the same names as MNIST's.
"""

import os
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from cnnbench.data import kept
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import FILES, Dataset
from cnnbench.data.cifar import parse_archive
from cnnbench.data.fetching import fetch
from cnnbench.data.idx import parse_idx
from cnnbench.data.user_folders import expand_user, user_cache
from cnnbench.data.verifying import read_verified
from cnnbench.errors import ConfigError

__all__ = ["cache_folder", "find", "load", "load_here", "locate", "read_ahead"]


@dataclass(frozen=True)
class Found:
    """The files of a data set that are on this machine, verified: where, and what is in them.

    `arrays` is their content if they are complete. `tried` is what was passed over.
    """

    paths: list[Path]
    contents: dict[str, bytes]
    arrays: Arrays | None
    tried: list[str]


_ahead: dict[tuple[str, ...], "Future[Found]"] = {}  # what `read_ahead` has begun, by data set and folders


def cache_folder(root: str | None) -> Path:
    """Return where fetched data sets are kept: `root` or, if None, the user's cache.

    Raises:
        ConfigError: it is in a home folder that is not known.
    """
    if root is None:
        return user_cache()
    folder = expand_user(root)
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        name = folder.parts[0]
        raise ConfigError(f"data.root={root}: {name} stands for no folder. Give the whole path.")
    return folder


def load(dataset: Dataset, root: str | None = None) -> Arrays:
    """The content of the files, fetched if it must be.

    Raises:
        DataError: a file is nowhere to be had, with all that was tried.
    """
    places = _places(dataset, root)
    ahead = _ahead.pop(places, None)
    recalled = kept.recall((dataset, places))
    if recalled is not None:
        return recalled[1]
    kept.forget()  # before others are read, so that both are never in memory
    found = ahead.result() if ahead is not None else _find_all(dataset, root)
    if found.arrays is not None:
        kept.keep((dataset, places), found.paths, dataset, found.arrays)
        return found.arrays
    missing = [file for file in dataset.files if file not in found.contents]
    return _parse(dataset, found.contents | fetch(dataset, missing, cache_folder(root), found.tried))


def load_here(dataset: Dataset, root: str | None = None) -> Arrays | None:
    """As `load`, but nothing is fetched: None if a file is not on this machine."""
    return _find_all(dataset, root).arrays


def read_ahead(dataset: Dataset, root: str | None = None) -> None:
    """Begin to find and verify the files in the background, for the next `load`. Nothing is fetched.

    Decompressing and hashing leave the interpreter free for the import of PyTorch, which takes longer.
    """
    places = _places(dataset, root)
    if places not in _ahead and kept.recall((dataset, places)) is None:
        _ahead[places] = Future()
        # a daemon, so that the end of the program need not wait for it
        Thread(target=_complete, args=(_ahead[places], dataset, root), daemon=True).start()


def _complete(future: "Future[Found]", dataset: Dataset, root: str | None) -> None:
    try:
        future.set_result(_find_all(dataset, root))
    except BaseException as error:  # it is `load` that raises it
        future.set_exception(error)


def _find_all(dataset: Dataset, root: str | None) -> Found:
    tried: list[str] = []
    paths: list[Path] = []
    contents: dict[str, bytes] = {}
    for file in dataset.files:
        path, content = find(dataset, file, root, tried)
        if path is not None and content is not None:
            paths.append(path)
            contents[file] = content
    arrays = _parse(dataset, contents) if len(contents) == len(dataset.files) else None
    return Found(paths, contents, arrays, tried)


def _parse(dataset: Dataset, contents: dict[str, bytes]) -> Arrays:
    if dataset.archives:
        return parse_archive(*contents.values())
    train, train_labels, test, test_labels = (parse_idx(contents[file]) for file in FILES)
    return Arrays(train, train_labels, test, test_labels)


def locate(dataset: Dataset) -> Path | None:
    """Return the folder that holds all files, or None. Only the smallest file is verified."""
    for folder in _folders(dataset, None):
        for name, size in dataset.archives.items():
            if kept.stamp(folder / name)[1:2] == (size,):
                return folder
    if dataset.archives:
        return None
    path, _ = find(dataset, FILES[-1], None, [])
    if path is None:
        return None
    for file in dataset.files:
        if not any((path.parent / form.name).is_file() for form in dataset.forms(file)):
            return None
    return path.parent


def find(dataset: Dataset, file: str, root: str | None, tried: list[str]) -> tuple[Path, bytes] | tuple[None, None]:
    """The path and verified content of one file on this machine; what was passed over goes to `tried`."""
    for folder in _folders(dataset, root):
        for form in dataset.forms(file):
            path = folder / form.name
            try:
                if not path.is_file():
                    continue
            except OSError as error:  # such as a folder that may not be entered
                tried.append(f"{path}: cannot be looked at ({error.strerror})")
                continue
            content, problem = read_verified(dataset, form, path)
            if content is not None:
                return path, content
            tried.append(f"{path}: {problem}")
    return None, None


def _places(dataset: Dataset, root: str | None) -> tuple[str, ...]:
    return (dataset.name, *map(str, _folders(dataset, root)))


def _folders(dataset: Dataset, root: str | None) -> list[Path]:
    """Every folder the files may lie in, in the order they are looked at."""
    given = os.environ.get("CNNBENCH_DATA", "").split(os.pathsep)
    folders = [cache_folder(root), *(expand_user(part) for part in given if part)]
    named = [place / name for place in folders for name in ("", *dataset.folders)]
    return [*dataset.places, *named] if dataset.name == "sample" else [*named, *dataset.places]
