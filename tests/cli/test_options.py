"""The options of each command."""

import re
from pathlib import Path

import pytest
from helpers.command import Command

from cnnbench.cli.main import COMMANDS
from cnnbench.cli.options import EXPORT_FORMATS, PARSERS
from cnnbench.errors import ConfigError
from cnnbench.training.export import FORMATS


def test_every_command_has_a_parser_and_is_in_the_overview(within: Command) -> None:
    shown = re.findall(r"^  ([\w-]+) +[A-Z]", within("--help").stdout, re.MULTILINE)
    assert sorted(COMMANDS) == sorted(PARSERS) == sorted(shown)


def test_export_formats_are_those_of_the_exporter() -> None:
    assert tuple(FORMATS) == EXPORT_FORMATS


@pytest.mark.parametrize("name", ["lenet.pdf", "svg", ".svg", "missing/lenet.svg", "file/a.png"])
def test_file_of_a_diagram_is_checked_before_anything_is_computed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ConfigError, match=f"--diagram {name}"):
        PARSERS["summary"]().read(["model=lenet", "--diagram", name])
    options, _ = PARSERS["summary"]().read(["--diagram", "lenet.SVG"])
    assert options.diagram == Path("lenet.SVG")


@pytest.mark.parametrize("name", ["batch.pdf", ".png", "missing/batch.png"])
def test_file_of_a_sheet_is_checked_before_anything_is_computed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"--show {name}"):
        PARSERS["data"]().read(["--show", name])
    options, names = PARSERS["data"]().read(["mnist", "--show", "batch.PNG"])
    assert (options.show, names) == (Path("batch.PNG"), ["mnist"])
