"""Tables and numbers as plain text."""

import math
import statistics
import unicodedata
from collections.abc import Sequence

from cnnbench.errors import format_count, is_harmless

__all__ = [
    "align",
    "display_width",
    "fit",
    "format_bytes",
    "format_count",
    "format_duration",
    "format_time_left",
    "mean_and_std",
    "printable",
    "table_width",
    "three_digits",
    "truncate",
]

MIN_TEXT = 12  # columns that are left of a text


def display_width(text: str) -> int:
    """Return how many columns of a terminal the text takes: Chinese and emoji take two each."""
    if text.isascii():
        return len(text)
    shown = [each for each in text if unicodedata.category(each) not in ("Mn", "Me", "Cf")]
    return len(shown) + sum(unicodedata.east_asian_width(each) in "WF" for each in shown)


def align(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows of cells as lines with columns of equal width, two spaces apart; columns in `right` end flush."""
    widths = _widths(rows)
    lines = []
    for row in rows:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - display_width(cell))
            cells.append(space + cell if column in right else cell + space)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def fit(rows: Sequence[Sequence[str]], right: Sequence[int], width: int) -> str:
    """Return the rows as `align` does, in lines of at most `width` columns, numbers whole.

    First the longest texts are cut, then each row takes several lines.
    """
    cells, least = [list(row) for row in rows], min(MIN_TEXT, width)
    texts = [column for column in range(len(cells[0])) if column not in right]
    widths = _widths(cells)
    for column in sorted(texts, key=lambda column: -widths[column]):
        excess = max(0, table_width(cells) - width)
        limit = max(least, widths[column] - excess)
        for row in cells:
            row[column] = row[column] if _is_number(row[column]) else truncate(row[column], limit)
    parts, start = [], 0
    for stop in range(1, len(cells[0]) + 1):
        indent = "  " if start else ""
        next_width = table_width([row[start : stop + 1] for row in cells])
        if stop == len(cells[0]) or len(indent) + next_width > width:
            columns = range(start, stop)
            part = [row[start:stop] for row in cells]
            lines = align(part, [column - start for column in columns if column in right])
            parts.append([f"{indent}{line}".rstrip() for line in lines.split("\n")])
            start = stop
    return "\n".join("\n".join(lines) for lines in zip(*parts, strict=True))


def table_width(rows: Sequence[Sequence[str]]) -> int:
    """Return how many columns of a terminal the rows take, aligned."""
    widths = _widths(rows)
    return sum(widths) + 2 * (len(widths) - 1)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(display_width, column)) for column in zip(*rows, strict=True)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def format_bytes(number: int) -> str:
    """A number of bytes for people: 512 B, 4.2 KiB, 1.5 GiB."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    thousands = min(int(math.log(number, 1024)), 4) if number else 0
    return f"{number / 1024**thousands:.{int(thousands > 0)}f} {units[thousands]}"


def format_duration(seconds: float) -> str:
    """A duration for people: 0.8 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.{int(seconds < 10)}f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_time_left(seconds: float) -> str:
    """A time to wait, in whole minutes if there are any: 40 s, 4 min, 2 h 5 min."""
    minutes = round(seconds / 60)
    if not minutes:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def three_digits(number: float) -> str:
    """A number above 0 with three digits that count, or all of those before the point: 0.0123, 1.23, 12,345."""
    return (
        f"{number:,.{max(0, 2 - math.floor(math.log10(number)))}f}" if number > 0 else f"{number:g}"
    )


def mean_and_std(values: Sequence[float], form: str = ".4f") -> str:
    """Return the mean and, of two values or more, the standard deviation; "" of none."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{form}}{spread}"


def printable(text: str) -> str:
    """Replace what could steer a terminal: the text may come from an untrusted run directory."""
    return "".join(each if is_harmless(each) or each == "\n" else "?" for each in text)


def truncate(text: str, most: int) -> str:
    """Return a text, which may be untrusted, as one line of at most so many columns."""
    line = printable(" ".join(text[: 10 * most].split()))
    if display_width(line) <= most:
        return line
    line = line[: most - 1]
    while display_width(line) >= most:
        line = line[:-1]
    return f"{line}…"
