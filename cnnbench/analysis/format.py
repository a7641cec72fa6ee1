"""Tables and numbers as plain text."""

import math
import statistics
from collections.abc import Sequence

from cnnbench.errors import format_count, is_harmless

__all__ = [
    "align",
    "format_bytes",
    "format_count",
    "format_duration",
    "mean_and_std",
    "printable",
    "three_digits",
    "truncate",
]


def align(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows of cells as lines with columns of equal width, two spaces apart; columns in `right` end flush."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


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


def three_digits(number: float) -> str:
    """A number above 0 with three digits that count, or all of those before the point: 0.0123, 1.23, 12,345."""
    return f"{number:,.{max(0, 2 - math.floor(math.log10(number)))}f}" if number > 0 else f"{number:g}"


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
    """Return a text, which may be untrusted, as one line of at most so many characters."""
    line = printable(" ".join(text[: 10 * most].split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"
