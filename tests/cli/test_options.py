"""The options of each command."""

import re

from helpers.command import Command

from cnnbench.cli.main import COMMANDS
from cnnbench.cli.options import EXPORT_FORMATS, PARSERS
from cnnbench.training.export import FORMATS


def test_every_command_has_a_parser_and_a_line_in_the_overview(within: Command) -> None:
    shown = re.findall(r"^  (\w+) +[A-Z]", within("--help").stdout, re.MULTILINE)
    assert sorted(COMMANDS) == sorted(PARSERS) == sorted(shown)


def test_the_formats_of_an_export_are_those_that_the_help_names() -> None:
    assert tuple(FORMATS) == EXPORT_FORMATS
