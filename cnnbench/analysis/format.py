"""Tables and numbers as plain text."""

import math
import statistics
import unicodedata
from collections.abc import Sequence

from cnnbench.errors import format_count, is_harmless

__all__ = [
    "align",
    "display_width",
    "fit_table",
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

MIN_TEXT = 12  # columns that `fit_table` leaves of a text


def display_width(text: str) -> int:
    """Return the width of a text in terminal columns: Chinese letters and emoji take two."""
    if text.isascii():
        return len(text)
    invisible = ("Mn", "Me", "Cf")  # combining marks and format characters
    shown = [letter for letter in text if unicodedata.category(letter) not in invisible]
    return len(shown) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in shown)


def align(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return rows of cells as lines with aligned columns, two spaces apart.

    The columns whose indices are in `right` are aligned to the right.
    """
    widths = _measure_columns(rows)
    lines = []
    for row in rows:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - display_width(cell))
            cells.append(space + cell if column in right else cell + space)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def fit_table(rows: Sequence[Sequence[str]], right: Sequence[int], width: int) -> str:
    """Return the rows as `align` does, in lines of at most `width` terminal columns.

    First the longest texts are truncated. If that is not enough, each row takes several lines.
    Numbers are never truncated.
    """
    cells, least = [list(row) for row in rows], min(MIN_TEXT, width)
    texts = [column for column in range(len(cells[0])) if column not in right]
    widths = _measure_columns(cells)
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
    """Return the width of the aligned rows in terminal columns."""
    widths = _measure_columns(rows)
    return sum(widths) + 2 * (len(widths) - 1)


def _measure_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(display_width, column)) for column in zip(*rows, strict=True)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def format_bytes(number: int) -> str:
    """Return a number of bytes with a unit: 512 B, 4.2 KiB, 1.5 GiB."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log(number, 1024)), 4) if number else 0
    return f"{number / 1024**power:.{int(power > 0)}f} {units[power]}"


def format_duration(seconds: float) -> str:
    """Return a duration with units: 0.8 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.{int(seconds < 10)}f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_time_left(seconds: float) -> str:
    """Return a remaining time, in whole minutes from half a minute on: 29 s, 4 min, 2 h 5 min."""
    minutes = round(seconds / 60)
    if not minutes:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def three_digits(number: float) -> str:
    """Return a positive number with three significant digits: 0.0123, 1.23, 416.

    All digits before the decimal point are kept: 12,346. Other numbers are formatted by "g".
    """
    if number <= 0:
        return f"{number:g}"
    decimals = max(0, 2 - math.floor(math.log10(number)))
    return f"{number:,.{decimals}f}"


def mean_and_std(values: Sequence[float], form: str = ".4f") -> str:
    """Return the mean with the standard deviation: 0.9000 ± 0.0100.

    One value has no standard deviation. Without values the result is "".
    """
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{form}}{spread}"


def printable(text: str) -> str:
    """Replace control characters by "?": the text may come from an untrusted run directory."""
    return "".join(letter if is_harmless(letter) or letter == "\n" else "?" for letter in text)


def truncate(text: str, max_width: int) -> str:
    """Return a text, which may be untrusted, as one line of at most `max_width` columns."""
    line = printable(" ".join(text[: 10 * max_width].split()))
    if display_width(line) <= max_width:
        return line
    line = line[: max_width - 1]
    while display_width(line) >= max_width:
        line = line[:-1]
    return f"{line}…"
