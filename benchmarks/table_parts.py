"""Rows of a table, measured in parts: a part that fails or takes too long does not end the others.

Each part is a process with its processes, which all end with it.
"""

import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Row:
    """A row of the table. `reached` is None if the goal cannot be judged, or there is none."""

    part: str
    what: str
    measured: str
    goal: str = ""
    reached: bool | None = None

    def __str__(self) -> str:
        reached = {True: "yes", False: "no", None: ""}[self.reached]
        cells = (self.part, self.what, self.measured, self.goal, reached)
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


HEADER = "| part | what | measured | goal | reached |\n| --- | --- | --- | --- | --- |"

# yields rows; its argument is the time of perf_counter at which the part will be ended
Measure = Callable[[float], Iterator[Row]]


def measure_part(part: str, measure: Measure, seconds: float) -> Iterator[Row]:
    """Yield the rows of a part as they come; after `seconds` end all of its processes."""
    receiver, sender = FORK.Pipe(duplex=False)
    deadline = time.perf_counter() + seconds
    process = FORK.Process(target=_send_rows, args=(part, measure, deadline, sender))
    process.start()
    sender.close()
    last = "the start"
    try:
        while receiver.poll(max(0, deadline - time.perf_counter())):
            row = receiver.recv()
            last = row.what
            yield row
        yield Row(part, f"all after: {last}", f"not measured: the part's {seconds:.0f} s are over")
    except EOFError:  # the part has ended
        process.join()
        if process.exitcode != 0:
            yield Row(part, f"all after: {last}", f"failed: exit code {process.exitcode}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _send_rows(part: str, measure: Measure, deadline: float, sender: Connection) -> None:
    os.setsid()
    with tempfile.TemporaryFile("a+") as errors:
        os.dup2(errors.fileno(), 2)
        for row in attempt(part, "all", measure(deadline)):
            sender.send(row)


def attempt(part: str, what: str, rows: Iterator[Row]) -> Iterator[Row]:
    """Yield the rows; if an error ends them, yield a row with the reason.

    The reason of a failed command is in the standard error output, which is a file here.
    """
    os.ftruncate(2, 0)
    try:
        yield from rows
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, subprocess.CalledProcessError):
            reason = find_reason(os.pread(2, os.fstat(2).st_size, 0).decode(errors="replace"))
        yield Row(part, what, f"failed: {reason}")


def find_reason(output: str) -> str:
    """Return the line of a command's output that names the error: the last, but of cnnbench's."""
    lines = [line for line in output.splitlines() if line.strip()]
    first_lines = [line for line in lines if line.startswith("cnnbench: ")]
    return [*first_lines[:1], *lines[-1:], "no message"][0]
