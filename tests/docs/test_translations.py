"""The Chinese pages show the commands, outputs and programs of the English ones."""

import re
from pathlib import Path

import pytest
from helpers.paths import ROOT

TRANSLATED = sorted([*ROOT.glob("*.zh-CN.md"), *ROOT.glob("docs/*.zh-CN.md")])


def code_of(page: Path) -> list[str]:
    """Return the lines of indented and fenced blocks, without the comments of commands."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}.*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return fenced + [re.sub(r"\s+# .*", "", line).rstrip() for line in indented]


def words_of(page: Path) -> list[str]:
    """Return the code spans with a command, a key or a path, in any order."""
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text(encoding="utf-8"))
    return sorted(set(spans))


def images_of(page: Path) -> list[str]:
    return re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_a_translation_has_the_code_and_pictures_of_its_original(page: Path) -> None:
    original = page.with_name(page.name.replace(".zh-CN", ""))
    assert code_of(page) == code_of(original)
    assert words_of(page) == words_of(original)
    assert images_of(page) == images_of(original)


def test_there_are_translations() -> None:
    assert [page.name for page in TRANSLATED] == ["README.zh-CN.md", "students.zh-CN.md"]
