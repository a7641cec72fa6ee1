"""A sheet to lay pictures and words on, in inches from its upper left corner."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnnbench.analysis.format import truncate
from cnnbench.runs.directory import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DIVERGING", "GREY", "SEQUENTIAL", "WIDTH", "Array", "Canvas", "as_picture"]

Array = npt.NDArray[Any]

WIDTH, DOTS_PER_INCH = 11.0, 150  # as wide as a slide
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"  # both can be read by the colour-blind
GREY = "#555555"
MOST_LETTERS = 120  # in a line


def as_picture(image: Array) -> Array:
    """(H, W), or (H, W, 3) if an image (C, H, W) has three channels; of any other number of channels their mean."""
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(axis=0)


@contextmanager
def _letters_that_the_font_lacks() -> Iterator[None]:
    """Boxes stand for them, without a warning for each; the page has the words in all letters."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


class Canvas:
    """A white sheet, `WIDTH` x `height` inches, with a title, and below it how to read it: the uppermost 0.7 inches."""

    def __init__(self, title: str, reading: str, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # 0.7 s that nothing else need wait for
        from matplotlib.figure import Figure

        self.height = height
        self.figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, facecolor="white")
        FigureCanvasAgg(self.figure)
        self._axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        self._axes.axis("off")
        self.text(0.2, 0.32, title, room=WIDTH - 0.4, size=13, weight="bold")
        self.text(0.2, 0.53, reading, room=WIDTH - 0.4, color=GREY)

    def text(
        self, x: float, y: float, words: str, *, room: float = WIDTH, size: float = 9, align: str = "left", **style: Any
    ) -> None:
        """Words on the line `y` that begin or, with align="right", end at `x`, cut to the room there is in inches.

        They may be anyone's.
        """
        renderer = self.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # of Agg
        words = truncate(words, MOST_LETTERS)
        # not as a formula, which a class named $x would be
        text = self._axes.text(x, y, words, size=size, ha=align, va="baseline", parse_math=False, **style)
        with _letters_that_the_font_lacks():
            while (too_long := text.get_window_extent(renderer).width / DOTS_PER_INCH / room) > 1 and len(words) > 1:
                words = f"{words[: min(int(len(words) / too_long), len(words) - 2)]}…"
                text.set_text(words)

    def image(
        self, x: float, y: float, side: float, values: Array, colours: str = "gray", low: float = 0, high: float = 1
    ) -> None:
        """Values (H, W) in colours from `low` to `high`, or red, green and blue (H, W, 3), fitted into a square."""
        height, width = np.array(values.shape[:2]) / max(values.shape[:2]) * side
        self._show(values, (x, x + width, y + height, y), colours, low, high)

    def strip(
        self, x: float, y: float, width: float, height: float, values: Array, colours: str, low: float, high: float
    ) -> None:
        """Values (F) side by side."""
        self._show(values[None], (x, x + width, y + height, y), colours, low, high)

    def colour_bar(self, x: float, y: float, width: float, colours: str, words: str) -> None:
        """A scale, and after it what it shows, from where to where."""
        self.strip(x, y, width, 0.12, np.linspace(0, 1, 256), colours, 0, 1)
        self.text(x + width + 0.08, y + 0.11, words, size=8, color=GREY)

    def box(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        from matplotlib.patches import Rectangle

        self._axes.add_patch(Rectangle((x, y), width, height, **style))

    def axes(self, x: float, y: float, width: float, height: float) -> "Axes":
        """Axes for a diagram, of this size and place."""
        bottom = self.height - y - height
        return self.figure.add_axes((x / WIDTH, bottom / self.height, width / WIDTH, height / self.height))

    def save(self, path: Path) -> None:
        with _letters_that_the_font_lacks():
            write_atomically(path, lambda file: self.figure.savefig(file, format="png"))

    def _show(
        self, values: Array, extent: tuple[float, float, float, float], colours: str, low: float, high: float
    ) -> None:
        is_enlarged = (extent[1] - extent[0]) * DOTS_PER_INCH >= values.shape[1]
        how = "nearest" if is_enlarged else "auto"  # which smooths
        self._axes.imshow(values, cmap=colours, vmin=low, vmax=high, extent=extent, aspect="auto", interpolation=how)
        self._axes.set(xlim=(0, WIDTH), ylim=(self.height, 0))  # which imshow has changed
