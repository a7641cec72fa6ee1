"""The files that README, docs and CONTRIBUTING name exist."""

import re
from pathlib import Path

import pytest
from helpers.doc_commands import PAGES
from helpers.paths import ROOT

PATH = re.compile(r"(?<![\w/.-])((?:\w+/)+(?:\w+\.(?:py|yaml|md|jinja|js))?)(?![\w/.-])")
# The pages name folders and files of users and runs as examples.
EXAMPLES = ("mine/", "outputs/", "photos/", "export/", "inspect/", "tensorboard/", "wandb/")
PARTS_OF_DATA = {"train/", "val/", "test/", "valid/"}
ADDED_BY_THE_READER = {"cnnbench/models/tiny.py", "conf/model/tiny.yaml"}


def named_files(text: str) -> set[str]:
    """Return the paths of sources in code spans, in blocks and in pictures of a page."""
    spans = re.findall(r"`([^`\n]+)`", text) + re.findall(r"\[\"([^:\"]+):", text)
    paths = {path for span in spans for path in PATH.findall(span)}
    return {path for path in paths - PARTS_OF_DATA if not path.startswith(EXAMPLES)}


def is_source(path: str) -> bool:
    return (ROOT / path).exists() or (ROOT / "cnnbench" / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    named = sorted(named_files(page.read_text()) - ADDED_BY_THE_READER)
    missing = [path for path in named if not is_source(path)]
    assert missing == []
