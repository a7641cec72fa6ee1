"""Figures for untrusted text, laid out by matplotlib's constrained layout."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.analysis.fonts import use_fallback_fonts
from cnnbench.analysis.format import truncate
from cnnbench.runs.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GRAY", "draw_figure"]

GRAY = "#555555"
Inches = tuple[float, float]  # width and height
DOTS_PER_INCH = 150


@contextmanager
def draw_figure(path: Path, title: str, size: Inches, note: str = "") -> Iterator["Figure"]:
    """Give the block a figure of `size` in inches, with a title and a note; then save it.

    The suffix of `path`, .png or .svg, is the format. Dollar signs in a text do not begin a
    formula. A box stands for a letter that no font has.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib import rc_context  # the import takes 0.7 s, which other commands avoid
    from matplotlib.figure import Figure

    form = path.suffix.lower().removeprefix(".")
    # A salt for names in the SVG and no date: the same figure has the same bytes.
    with (
        rc_context({"text.parse_math": False, "svg.hashsalt": "cnnbench"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure = Figure(size, dpi=DOTS_PER_INCH, layout="constrained")
        style: dict[str, Any] = {"x": 0.01, "ha": "left", "wrap": True}
        figure.suptitle(truncate(title, 100), size=13, weight="bold", **style)
        if note:
            figure.supxlabel(truncate(note, 140), size=9, color=GRAY, **style)
        yield figure
        use_fallback_fonts(figure)
        options: dict[str, Any] = {"format": form, "bbox_inches": "tight", "pad_inches": 0.15}
        if form == "svg":
            options["metadata"] = {"Date": None}
        write_atomically(path, lambda file: figure.savefig(file, **options))
