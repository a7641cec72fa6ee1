#!/usr/bin/env python3
"""Check what ruff does not: docstrings, sizes, words, and that each module has its tests.

Usage: scripts/check_style.py [FOLDER ...]      (default: the whole checkout)
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_LINE = 100  # characters
MAX_LINES = 350  # of a module
MAX_PARAMETERS = 7  # of a function, networks aside

# A docstring says what a function does, in the imperative.
NOT_IMPERATIVE = re.compile(r"(What|Of|Where|How|Whether|As|Those|Which)\b")
# Words of everyday speech, and the term of the field for each.
WORDS = {
    r"\bgo(?:es)? on\b|\bgone on\b": "resume",
    r"\bheld[ _]out\b": "validation set",
    r"\btold\b|\btells?\b|\bhears?\b": "print, log or report",
    r"\bby[ _]hand\b": "reference implementation",
    r"\banyone's\b|\bstranger's\b": "untrusted",
    r"\bof (?:one|your|their|its)'?s? own\b": "custom, or a plain possessive",
    r"\bflip[ _]averaging\b": "tta",
    r"(?i)initialis|normalis|optimis|regularis|colour|neighbour|behaviour": "American spelling",
}
FOLDERS = ("cnnbench", "hydra_plugins", "conf", "tests", "benchmarks", "examples", "scripts")
CODE = (".py", ".yaml", ".js", ".jinja")


def main() -> int:
    """Print each finding as PATH:LINE: MESSAGE; return 1 if there is one."""
    found = 0
    for path in list_files(sys.argv[1:]):
        for line, message in check_file(path):
            print(f"{path.relative_to(ROOT)}:{line}: {message}")
            found += 1
    print(f"{found} findings")
    return min(found, 1)


def list_files(folders: list[str]) -> Iterator[Path]:
    for folder in folders or FOLDERS:
        place = ROOT / folder
        paths = [place] if place.is_file() else sorted(place.rglob("*"))
        yield from (path for path in paths if path.suffix in CODE)


def check_file(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text(encoding="utf-8")
    if path != Path(__file__).resolve():
        yield from check_words(text)
    if path.suffix != ".py":
        return
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        yield 1, f"{len(lines)} lines, more than {MAX_LINES}"
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE:
            yield number, f"{len(line)} characters, more than {MAX_LINE}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from check_function(node, path)
    if not has_tests(path):
        yield 1, "has no tests in the same place below tests/"


def check_words(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, term in WORDS.items():
            word = re.search(pattern, line)
            if word:
                yield number, f"'{word[0]}': {term}"


def check_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path
) -> Iterator[tuple[int, str]]:
    first = NOT_IMPERATIVE.match(ast.get_docstring(node) or "")
    if first:
        yield node.lineno, f"the docstring of {node.name} begins with '{first[0]}'"
    declared = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    parameters = [each.arg for each in declared if each.arg not in ("self", "cls")]
    is_network = path.parent.name == "models"
    if len(parameters) > MAX_PARAMETERS and not is_network:
        yield node.lineno, f"{node.name} has {len(parameters)} parameters"


def has_tests(path: Path) -> bool:
    """Return whether a module of the package has a file of tests named as it is."""
    module = path.relative_to(ROOT)
    if module.parts[0] != "cnnbench" or path.stem.startswith("__"):
        return True
    folder = ROOT.joinpath("tests", *module.parts[1:-1])
    return any(folder.glob(f"test_{path.stem}.py")) or any(folder.glob(f"test_{path.stem}_*.py"))


if __name__ == "__main__":
    sys.exit(main())
