"""The commands that README and docs show."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from helpers.paths import ROOT

PAGES = [
    *sorted(ROOT.glob("README*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
]
# tests/docs/test_translations.py compares the code of the translations with that of these
ORIGINALS = [page for page in PAGES if not page.name.endswith(".zh-CN.md")]
PROGRAMS = ("cnnbench", "torchrun", "python", "pip", "make")

_IN_BLOCK = re.compile(r"^ {4}(?:\$ )?((?:" + "|".join(PROGRAMS) + r")(?: .*)?)$")
_IN_LINE = re.compile(r"`((?:" + "|".join(PROGRAMS) + r") [^`]+)`")


@dataclass(frozen=True)
class DocCommand:
    """A command on a page, without its comment, and the output below a command after a $."""

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
    """Yield all commands, in the order of pages and lines."""
    for page in ORIGINALS:
        lines = page.read_text().splitlines()
        for number, line in enumerate(lines):
            block = _IN_BLOCK.match(line)
            texts = []
            if block:
                texts = [block[1]]
            elif not line.startswith("    "):
                texts = _IN_LINE.findall(line)
            for text in texts:
                last = number
                while text.endswith("\\"):
                    last += 1
                    text = text[:-1] + lines[last].strip()
                output = ""
                if line.startswith("    $"):
                    below = takewhile(_is_output, lines[last + 1 :])
                    output = "\n".join(shown[4:] for shown in below).strip()
                command = re.sub(r"\s{2,}#.*$|\s# .*$", "", text).strip()
                yield DocCommand(page.name, number + 1, command, output)


def _is_output(line: str) -> bool:
    return line.startswith("    ") or not line
