"""The commands that README and docs show, and how each is run here: as it stands, but on little data."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from helpers.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("cnnbench", "torchrun", "python", "pip", "make")

_IN_BLOCK = re.compile(r"^ {4}(?:\$ )?((?:" + "|".join(PROGRAMS) + r")(?: .*)?)$")
_IN_LINE = re.compile(r"`((?:" + "|".join(PROGRAMS) + r") [^`]+)`")


@dataclass(frozen=True)
class DocCommand:
    """A command on a page, without its comment, and what it is shown to print, if it is after a $."""

    page: str
    line: int
    text: str
    output: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def find_commands() -> Iterator[DocCommand]:
    """All of them."""
    for page in PAGES:
        lines = page.read_text().splitlines()
        for number, line in enumerate(lines):
            block = _IN_BLOCK.match(line)
            texts = (
                [block[1]] if block else [] if line.startswith("    ") else _IN_LINE.findall(line)
            )
            for text in texts:
                ends = number
                while text.endswith("\\"):
                    ends += 1
                    text = text[:-1] + lines[ends].strip()
                shows = takewhile(
                    lambda each: each.startswith("    ") or not each, lines[ends + 1 :]
                )
                output = (
                    "\n".join(each[4:] for each in shows).strip()
                    if line.startswith("    $")
                    else ""
                )
                yield DocCommand(
                    page.name, number + 1, re.sub(r"\s{2,}#.*$|\s# .*$", "", text).strip(), output
                )
