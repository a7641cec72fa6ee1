"""The commands, one module each, and what several of them do alike."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnbench.analysis.format import printable
from cnnbench.errors import explain_write_error
from cnnbench.runs.directory import RunDirectory

__all__ = [
    "ALLOW_CUSTOM_MODEL",
    "EXAMPLE_RUN",
    "parse_run_arguments",
    "run_parser",
    "words_beside",
    "write_results",
]

EXAMPLE_RUN = "outputs/lenet-fashion_mnist-28px/2026-11-24_10-00-00"
ALLOW_CUSTOM_MODEL = "let it run a network that is not cnnbench's"  # the help of that flag


def run_parser(
    command: str, description: str, example: str, metavar: str | None = "RUN_DIR"
) -> argparse.ArgumentParser:
    """Return a parser for a command whose first argument is a run directory."""
    parser = argparse.ArgumentParser(
        prog=f"cnnbench {command}",
        description=description,
        epilog=f"Example: cnnbench {command} {EXAMPLE_RUN} {example}",
    )
    parser.add_argument("directory", type=Path, metavar=metavar, help="a run directory, such as those under outputs/")
    return parser


def parse_run_arguments(
    parser: argparse.ArgumentParser, arguments: list[str], takes_data: bool = False
) -> argparse.Namespace:
    """Parse the arguments, with the flags that come last in the help of each such command.

    The result has the arguments beside the directory, as they were typed, as `rest`.
    """
    if takes_data:
        parser.add_argument("--match-by-order", action="store_true", help="match other classes by their order")
    parser.add_argument("--allow-custom-model", action="store_true", help=ALLOW_CUSTOM_MODEL)
    options = parser.parse_intermixed_args(arguments)
    options.rest = words_beside(options.directory, arguments)
    return options


def words_beside(directory: Path, arguments: list[str]) -> list[str]:
    """Return the arguments without the one that names the directory."""
    place = next(place for place, word in enumerate(arguments) if Path(word) == directory)
    return arguments[:place] + arguments[place + 1 :]


@contextmanager
def write_results(output: Path, *names: str) -> Iterator[RunDirectory]:
    """Give the block a folder to write files of these names into; then print where they are.

    Raises:
        ConfigError: they cannot be written there.
    """
    try:
        yield RunDirectory(output)
    except OSError as error:
        advice = "Name another place: --output DIR."
        raise explain_write_error(error.filename or output, error, advice) from error
    for name in names:
        print(printable(os.path.relpath(output / name)))
