"""Results of the scan of a folder dataset, relative to the folder."""

from pathlib import Path

from cnnbench.data.scan_folder import Classes, list_images
from cnnbench.errors import DataError

__all__ = [
    "COMPOSED",
    "DECOMPOSED",
    "list_all_names",
    "list_names",
    "list_problems",
    "list_top_folders",
]

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"  # the same name in two Unicode forms


def list_names(part: Classes, folder: Path) -> list[str]:
    """Return the relative paths of the files of one part."""
    paths = [Path(file.path) for files in part.values() for file in files]
    return [path.relative_to(folder).as_posix() for path in paths]


def list_all_names(folder: Path) -> list[str]:
    """Return the relative paths of the files of all parts, sorted."""
    train, validation, test, *_ = list_images(folder)
    return sorted(name for part in (train, validation, test) for name in list_names(part, folder))


def list_top_folders(folder: Path) -> list[set[str]]:
    """Return the names of the folders in `folder` that have the files of each part."""
    train, validation, test, *_ = list_images(folder)
    parts = [list_names(part, folder) for part in (train, validation, test)]
    return [{name.split("/")[0] for name in part} for part in parts]


def list_problems(folder: Path) -> list[str]:
    """Return the problems in a folder, without its path."""
    try:
        problems = list_images(folder).problems
    except DataError as error:
        problems = [str(error)]
    return [problem.replace(f"{folder}/", "") for problem in problems]
