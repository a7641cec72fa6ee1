"""The options of each command."""

import re

from helpers.command import Command

from cnnbench.cli.main import COMMANDS
from cnnbench.cli.options import EXPORT_FORMATS, PARSERS
from cnnbench.training.export import FORMATS


def test_every_command_has_a_parser_and_is_in_the_overview(within: Command) -> None:
    shown = re.findall(r"^  (\w+) +[A-Z]", within("--help").stdout, re.MULTILINE)
    assert sorted(COMMANDS) == sorted(PARSERS) == sorted(shown)


def test_export_formats_are_those_of_the_exporter() -> None:
    assert tuple(FORMATS) == EXPORT_FORMATS
