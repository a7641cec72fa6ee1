"""The list of examples in examples/README.md."""

import re
from pathlib import Path

import pytest
from helpers.paths import EXAMPLES

FILES = sorted(EXAMPLES.glob("*.py"))
MAX_LINES = 60
# A search with options of its command line, and two pictures with a table each.
LONG = {"gradient_descent.py", "optuna_search.py", "padding_modes.py"}


def test_each_example_is_listed_with_its_command() -> None:
    listed = re.findall(r"`python examples/(\w+\.py)`", (EXAMPLES / "README.md").read_text())
    assert sorted(set(listed)) == [path.name for path in FILES]


@pytest.mark.parametrize("path", [path for path in FILES if path.name not in LONG], ids=str)
def test_example_is_short_enough_for_a_page(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
