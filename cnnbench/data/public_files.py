"""Find the files of a public data set on this machine, and verify them.

Files are searched in the cache, in the folders of CNNBENCH_DATA and in system folders. A file is
used only if its SHA-256 is the known one, because mirrors recompress files, proxies send web pages
instead, and data sets share file names.
"""

import gzip
import hashlib
import os
import zlib
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from cnnbench.data.catalog import CATALOG, PublicDataset
from cnnbench.data.user_folders import expand_user, user_cache
from cnnbench.errors import ConfigError

__all__ = ["Found", "cache_folder", "find_files", "list_folders", "published_name", "read_verified"]

GZIP = b"\x1f\x8b"  # first bytes of gzipped files


class Found(NamedTuple):
    """The verified files of a data set on this machine; `tried` lists rejected files and why."""

    paths: dict[str, Path]
    contents: dict[str, bytes]
    missing: list[str]
    tried: list[str]

    @property
    def folders(self) -> str:
        return ", ".join(sorted({str(path.parent) for path in self.paths.values()}))


def cache_folder(root: str | None) -> Path:
    """Return the folder of downloaded data sets: `root` or, if None, the user's cache.

    Raises:
        ConfigError: `root` begins with ~ and the home folder is not known.
    """
    if root is None:
        return user_cache()
    folder = expand_user(root)
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        name = folder.parts[0]
        raise ConfigError(f"data.root={root}: {name} stands for no folder. Give the whole path.")
    return folder


def find_files(dataset: PublicDataset, root: str | None = None) -> Found:
    """Return the verified files of a data set that are on this machine."""
    found = Found({}, {}, [], [])
    for file in dataset.sha256:
        place = _find_file(dataset, file, list_folders(dataset, root), found.tried)
        if place is None:
            found.missing.append(file)
            continue
        found.paths[file], found.contents[file] = place
        if dataset.archives:
            return found._replace(missing=[])
    if dataset.archives:
        return found._replace(missing=[" or ".join(dataset.archives)])
    return found


def list_folders(dataset: PublicDataset, root: str | None) -> list[Path]:
    """Return the folders to search for the files, in order."""
    parts = os.environ.get("CNNBENCH_DATA", "").split(os.pathsep)
    places = [cache_folder(root), *(expand_user(part) for part in parts if part)]
    folders = [place / name for place in places for name in ("", *dataset.folders)]
    if not dataset.source:  # installed with cnnbench
        return [*dataset.system_folders, *folders]
    return [*folders, *dataset.system_folders]


def published_name(file: str) -> str:
    """Return the published name of a file: IDX files are published gzipped, archives are not."""
    return file if "." in file else f"{file}.gz"


def _find_file(
    dataset: PublicDataset, file: str, places: list[Path], tried: list[str]
) -> tuple[Path, bytes] | None:
    """Return path and content of the first file with the known digest; append others to `tried`."""
    for folder in places:
        for path in dict.fromkeys((folder / file, folder / published_name(file))):
            try:
                if path.is_file():
                    return path, read_verified(dataset, file, path)
            except OSError as error:  # no permission for the folder or the file
                tried.append(f"{path}: cannot be read ({error.strerror})")
            except ValueError as error:
                tried.append(f"{path}: {error}")
    return None


def read_verified(dataset: PublicDataset, file: str, path: Path) -> bytes:
    """Return the content of a file, unpacked if it is gzipped and not an archive.

    Raises:
        OSError: the file cannot be read.
        ValueError: neither the packed nor the unpacked content has the known digest. Files that
            are too large are neither read nor unpacked to the end.
    """
    limit = dataset.max_bytes(file)
    with path.open("rb") as stream:
        contents = [stream.read(limit + 1)]
    _check_size(len(contents[0]), limit)
    if contents[0].startswith(GZIP) and file not in dataset.archives:
        contents.append(_unpack(contents[0], limit))
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    if dataset.sha256[file] in digests:
        return contents[-1]
    owner = _find_owner(digests)
    if owner is not None:
        raise ValueError(f"holds {owner}, not {dataset.title}'s {file}")
    reason = f"not {dataset.title}'s: its SHA-256 is {digests[-1][:12]}..."
    raise ValueError(f"damaged or truncated, or {reason}")


def _find_owner(digests: list[str]) -> str | None:
    """Return the data set and file that have one of the digests, for messages; None if unknown."""
    for dataset in CATALOG.values():
        for file, sha256 in dataset.sha256.items():
            if sha256 in digests:
                return f"{dataset.title}'s {file}"
    return None


def _unpack(content: bytes, limit: int) -> bytes:
    """Return the content of a gzipped file.

    It is unpacked by one call, beside which Python imports PyTorch. The reader of the module gzip,
    for the rare file of several members, takes Python's lock for every 8 KiB.

    Raises:
        ValueError: the file is damaged, truncated, or holds more than `limit` bytes.
    """
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # with the header and checksum of gzip
    try:
        unpacked = stream.decompress(content, limit + 1)
        if stream.unused_data:
            unpacked = gzip.GzipFile(fileobj=BytesIO(content)).read(limit + 1)
        _check_size(len(unpacked), limit)
        if not stream.eof:
            raise EOFError("the end is missing")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"damaged or truncated ({error})") from error
    return unpacked


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"larger than {limit:,} bytes, the maximum")
