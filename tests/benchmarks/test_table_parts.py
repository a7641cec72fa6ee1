"""Parts of a table that fail, die or take too long, in benchmarks/table_parts.py."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.scripts import load_script

# Python 3.12 and later warn of a fork beside threads, which the test process has.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def parts() -> ModuleType:
    return load_script(ROOT / "benchmarks" / "table_parts.py")


@contextmanager
def stderr_is_a_pipe() -> Iterator[None]:
    """Make standard error what it often is outside of tests: no file."""
    reader, writer = os.pipe()
    before = os.dup(2)
    os.dup2(writer, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        for descriptor in (reader, writer, before):
            os.close(descriptor)


def test_rows_of_a_part_come_in_their_order(parts: ModuleType) -> None:
    rows = [parts.Row("part", what, "1 s") for what in ("first", "second")]
    assert list(parts.measure_part("part", lambda _: iter(rows), 60)) == rows


def test_error_of_a_part_is_named_after_its_rows(parts: ModuleType) -> None:
    def measure(_: float) -> Iterator[Any]:
        yield parts.Row("part", "first", "1 s")
        raise ValueError("no such network")

    first, failed = parts.measure_part("part", measure, 60)
    assert first.what == "first"
    assert failed == parts.Row("part", "all", "failed: ValueError: no such network")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('cnnbench: no data.\\nTried: x', file=sys.stderr)", "cnnbench: no data."),
        ("raise KeyError('torch')", "KeyError: 'torch'"),
        ("", "no message"),
    ],
)
def test_reason_of_a_failed_command_is_in_its_error_output(
    parts: ModuleType, script: str, reason: str
) -> None:
    def measure(_: float) -> Iterator[Any]:
        command = [sys.executable, "-S", "-c", f"import sys; {script}\nsys.exit(3)"]
        yield from parts.attempt("part", "command", run(command))
        yield parts.Row("part", "the next", "1 s")

    def run(command: list[str]) -> Iterator[Any]:
        subprocess.run(command, check=True)
        yield

    with stderr_is_a_pipe():
        failed, following = parts.measure_part("part", measure, 60)
    assert failed == parts.Row("part", "command", f"failed: {reason}")
    assert following.what == "the next"


def test_part_that_takes_too_long_is_named_and_its_processes_end(parts: ModuleType) -> None:
    reader, writer = os.pipe()

    def measure(_: float) -> Iterator[Any]:
        yield parts.Row("part", "first", "1 s")
        subprocess.run(["sleep", "60"], pass_fds=[writer])

    first, late = parts.measure_part("part", measure, 0.3)
    os.close(writer)
    assert first.what == "first"
    assert late.what == "all after: first"
    assert late.measured == "not measured: the part's 0 s are over"
    readable, _, _ = select.select([reader], [], [], 10)
    assert readable  # nobody holds the other end any more
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_part_whose_process_dies_is_named(parts: ModuleType) -> None:
    def measure(_: float) -> Iterator[Any]:
        yield parts.Row("part", "first", "1 s")
        os._exit(9)

    *_, died = parts.measure_part("part", measure, 60)
    assert died == parts.Row("part", "all after: first", "failed: exit code 9")


def test_part_knows_when_it_will_be_ended(parts: ModuleType) -> None:
    def measure(deadline: float) -> Iterator[Any]:
        yield parts.Row("part", "left", str(deadline - time.perf_counter()))

    (row,) = parts.measure_part("part", measure, 60)
    assert 0 < float(row.measured) <= 60


@pytest.mark.parametrize(("is_reached", "cell"), [(True, "yes"), (False, "no"), (None, "")])
def test_row_is_a_line_of_markdown(parts: ModuleType, is_reached: bool | None, cell: str) -> None:
    row = parts.Row("part", "what", "a|b", "goal", is_reached)
    assert str(row) == f"| part | what | a/b | goal | {cell} |"
