"""The commands, one module each, and the function with which they write results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnbench.analysis.format import printable
from cnnbench.errors import explain_write_error
from cnnbench.runs.directory import RunDirectory

__all__ = ["write_results"]


@contextmanager
def write_results(output: Path, *names: str) -> Iterator[RunDirectory]:
    """Yield a folder to write the named files into; afterwards print their paths.

    Raises:
        ConfigError: the files cannot be written there.
    """
    try:
        yield RunDirectory(output)
    except OSError as error:
        advice = "Name another place: --output DIR."
        raise explain_write_error(error.filename or output, error, advice) from error
    for name in names:
        print(printable(os.path.relpath(output / name)))
