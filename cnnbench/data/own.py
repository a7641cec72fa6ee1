"""What is common to all folders of one's own images."""

import os
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.data.arrays import Arrays
from cnnbench.errors import DataError, is_harmless

__all__ = ["OwnData", "class_name", "nfc", "refuse", "shown"]

MOST_TOLD = 10  # problems, beyond which they are only counted


@dataclass(frozen=True)
class OwnData:
    """A data set in a folder, of which no more is read than it takes to know this.

    Of `num_train` images the last `num_validation` are the validation set. `content` changes when
    the files do. `read` gives what is in them and notes on it, or raises a DataError. `split_here`
    tells that the test part was not apart there; `notes` are for people.
    """

    classes: tuple[str, ...]
    num_train: int
    num_test: int
    in_channels: int
    image_size: int
    content: Hashable
    read: Callable[[], tuple[Arrays, Sequence[str]]]
    num_validation: int = 0
    split_here: bool = False
    notes: tuple[str, ...] = ()


def refuse(folder: Path, problems: Sequence[str]) -> DataError:
    """The error that says what is wrong in a folder: the first problems, and how many more there are."""
    problems = list(dict.fromkeys(problems))
    if len(problems) == 1:
        return DataError(problems[0])
    told = [f"  {each}" for each in problems[:MOST_TOLD]]
    more = [f"  and {len(problems) - MOST_TOLD:,} more"] if len(problems) > MOST_TOLD else []
    return DataError("\n".join([f"There are {len(problems):,} problems in {shown(folder)}:", *told, *more]))


def shown(path: "str | os.PathLike[str]") -> str:
    """A name for people: files may be called by what would steer a terminal, or is no text at all."""
    name = os.fspath(path)
    return name if all(map(is_harmless, name)) else ascii(name)


def nfc(text: str) -> str:
    """Return the text in Unicode's composed form: systems write an accent in different ways."""
    return unicodedata.normalize("NFC", text)


def class_name(name: str) -> str | None:
    """Return the name as that of a class, None if it has control characters or is no text."""
    return None if any(unicodedata.category(each) in ("Cc", "Cs") for each in name) else nfc(name)
