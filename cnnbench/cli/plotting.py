"""`--plot`: the curves of a run on the terminal when it has ended."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnbench.errors import DivergedError

__all__ = ["plotted"]


@contextmanager
def plotted(run: Path, wanted: bool, *, named: bool = False) -> Iterator[None]:
    """Plot the run when the block has ended, if `wanted` and no mistake ended it; `named`: by its directory.

    An interruption is no mistake, and how a run diverged is worth a look.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, DivergedError):
        if wanted:
            _plot(run, named)
        raise
    if wanted:
        _plot(run, named)


def _plot(run: Path, named: bool) -> None:
    from cnnbench.analysis.epochs import take_valid_rows
    from cnnbench.analysis.format import printable
    from cnnbench.reports.terminal_plot import plot
    from cnnbench.runs.records import read_rows

    rows = take_valid_rows(read_rows(run))
    if not rows:
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        unicode = bool("┤⠿▲".encode(encoding))
    except UnicodeEncodeError:
        unicode = False
    heading = f"{printable(run.name)}\n".encode(encoding, "replace").decode(encoding) if named else ""
    # in one piece: jobs side by side print too
    print(f"\n{heading}{plot(rows, shutil.get_terminal_size().columns, unicode)}", flush=True)
