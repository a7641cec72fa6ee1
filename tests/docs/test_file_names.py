"""Files that README, docs and CONTRIBUTING name are there."""

import re
from pathlib import Path

import pytest
from helpers.doc_commands import PAGES
from helpers.paths import ROOT

PATH = re.compile(r"(?<![\w/.-])((?:\w+/)+(?:\w+\.(?:py|yaml|md|jinja|js))?)(?![\w/.-])")
# folders and files of users and runs, which the pages name as examples
EXAMPLES = ("mine/", "outputs/", "photos/", "export/", "inspect/", "tensorboard/", "wandb/")
PARTS_OF_DATA = {"train/", "val/", "test/", "valid/"}
ADDED_BY_THE_READER = {"cnnbench/models/tiny.py", "conf/model/tiny.yaml"}


def named_files(text: str) -> set[str]:
    """Return the paths of sources in code spans, in blocks and in pictures of a page."""
    spans = re.findall(r"`([^`\n]+)`", text) + re.findall(r"\[\"([^:\"]+):", text)
    paths = {path for span in spans for path in PATH.findall(span)}
    return {path for path in paths - PARTS_OF_DATA if not path.startswith(EXAMPLES)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_named_file_exists(page: Path) -> None:
    missing = [
        path
        for path in sorted(named_files(page.read_text()) - ADDED_BY_THE_READER)
        if not (ROOT / path).exists() and not (ROOT / "cnnbench" / path).exists()
    ]
    assert missing == []
