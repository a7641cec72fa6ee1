"""Flow charts: boxes in rows, branches that meet, and panels, drawn into axes.

Lengths are in inches, and y grows downwards.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from cnnbench.reports.figures import GRAY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "GAP",
    "BoxDrawing",
    "Drawing",
    "JoinDrawing",
    "Line",
    "Panel",
    "RowDrawing",
    "Sheet",
    "SumDrawing",
    "measure_text",
    "widen",
]

SIZE, SMALL = 8.0, 7.0  # points
STYLES: dict[str, dict[str, Any]] = {
    "normal": {"size": SIZE},
    "bold": {"size": SIZE, "weight": "bold"},
    "gray": {"size": SMALL, "color": GRAY},
}
BLACK = "#222222"
EDGE: dict[str, Any] = {"edgecolor": BLACK, "linewidth": 0.8}
LINE = 0.145  # height of a line of text
PAD = 0.06  # between a box and its text
GAP = 0.19  # between boxes in a row
SIDE_GAP = 0.2  # between branches
COLUMN_GAP = 0.4  # between columns, for the line that leads to the next
RADIUS = 0.1  # of the circle of a sum

Line: TypeAlias = tuple[str, str]  # a text and its style
Point: TypeAlias = tuple[float, float]


class Drawing(Protocol):
    """A drawing below its entry. It reaches `left` and `right` from there.

    An arrow points to the entry if it is that of a box.
    """

    @property
    def left(self) -> float: ...
    @property
    def right(self) -> float: ...
    @property
    def height(self) -> float: ...
    @property
    def is_box(self) -> bool: ...
    def draw(self, axes: "Axes", x: float, y: float) -> None:
        """Draw it with its entry at (x, y)."""


@dataclass
class BoxDrawing:
    """A box with lines of text, a name at its left and a number of times at its right."""

    lines: Sequence[Line]
    color: str = "white"
    name: str = ""
    times: int = 1
    has_edge: bool = True
    is_box = True

    def __post_init__(self) -> None:
        self.width = max(measure_text(text, style) for text, style in self.lines) + 3 * PAD
        self.height = len(self.lines) * LINE + 2 * PAD
        self.factor = f"× {self.times:,}" if self.times > 1 else ""

    @property
    def left(self) -> float:
        return self.width / 2 + (measure_text(self.name, "gray") + PAD if self.name else 0)

    @property
    def right(self) -> float:
        return self.width / 2 + (measure_text(self.factor, "bold") + PAD if self.factor else 0)

    def draw(self, axes: "Axes", x: float, y: float) -> None:
        from matplotlib.patches import Rectangle

        half, middle = self.width / 2, y + self.height / 2
        if self.has_edge:
            corner = (x - half, y)
            box = Rectangle(corner, self.width, self.height, facecolor=self.color, **EDGE)
            axes.add_patch(box)
        for number, line in enumerate(self.lines):
            _write(axes, (x, y + PAD + (number + 0.5) * LINE), line)
        _write(axes, (x - half - PAD, middle), (self.name, "gray"), "right")
        _write(axes, (x + half + PAD, middle), (self.factor, "bold"), "left")


@dataclass
class RowDrawing:
    """Drawings one below the other. Without any it is a line."""

    items: Sequence[Drawing]

    def __post_init__(self) -> None:
        self.left = max((item.left for item in self.items), default=0.1)
        self.right = max((item.right for item in self.items), default=0.1)
        self.height = sum(item.height for item in self.items) + GAP * max(0, len(self.items) - 1)
        self.is_box = bool(self.items) and self.items[0].is_box

    def draw(self, axes: "Axes", x: float, y: float) -> None:
        for number, item in enumerate(self.items):
            if number:
                _connect(axes, [(x, y), (x, y + GAP)], item.is_box)
                y += GAP
            item.draw(axes, x, y)
            y += item.height


class SumDrawing:
    """Branches that end in a circle below the first of them."""

    is_box = False

    def __init__(self, rows: Sequence[RowDrawing], sign: str) -> None:
        self.rows, self.sign = rows, sign
        self.places = [0.0]  # of the branches, from the entry
        for row, following in pairwise(rows):
            self.places.append(self.places[-1] + row.right + SIDE_GAP + following.left)
        self.left = max(row.left - place for row, place in zip(rows, self.places, strict=True))
        self.right = self.places[-1] + rows[-1].right
        self.height = max(row.height for row in rows) + 2 * GAP + 2 * RADIUS

    def draw(self, axes: "Axes", x: float, y: float) -> None:
        from matplotlib.patches import Circle

        middle = y + self.height - RADIUS
        _connect(axes, [(x, y), (x + self.places[-1], y)], has_head=False)
        for row, place in zip(self.rows, self.places, strict=True):
            bottom = _draw_branch(axes, row, x + place, y)
            if place:
                ways = [(x + place, bottom), (x + place, middle), (x + RADIUS, middle)]
            else:
                ways = [(x, bottom), (x, middle - RADIUS)]
            _connect(axes, ways)
        axes.add_patch(Circle((x, middle), RADIUS, facecolor="white", **EDGE))
        _write(axes, (x, middle), (self.sign, "bold"))


class JoinDrawing:
    """Branches that end in a wide box, such as that of a concatenation."""

    is_box = False

    def __init__(self, rows: Sequence[RowDrawing], box: BoxDrawing) -> None:
        self.rows, self.box = rows, box
        width = sum(row.left + row.right for row in rows) + SIDE_GAP * (len(rows) - 1)
        start, self.places = -width / 2, []
        for row in rows:
            self.places.append(start + row.left)
            start += row.left + row.right + SIDE_GAP
        box.width = max(box.width, width)
        self.left = self.right = box.width / 2
        self.height = max(row.height for row in rows) + 2 * GAP + box.height

    def draw(self, axes: "Axes", x: float, y: float) -> None:
        top = y + self.height - self.box.height
        _connect(axes, [(x + self.places[0], y), (x + self.places[-1], y)], has_head=False)
        for row, place in zip(self.rows, self.places, strict=True):
            bottom = _draw_branch(axes, row, x + place, y)
            _connect(axes, [(x + place, bottom), (x + place, top)])
        self.box.draw(axes, x, top)


def _draw_branch(axes: "Axes", row: RowDrawing, x: float, y: float) -> float:
    """Draw a branch below a line at `y`; return where it ends."""
    _connect(axes, [(x, y), (x, y + GAP)], row.is_box)
    row.draw(axes, x, y + GAP)
    return y + GAP + row.height


@dataclass
class Panel:
    """A row in a frame, with a title at the left and a name at the right."""

    title: str
    name: str
    row: RowDrawing

    def __post_init__(self) -> None:
        heading = measure_text(self.title, "bold") + SIDE_GAP + measure_text(self.name, "gray")
        self.width = max(self.row.left + self.row.right, heading) + 2 * SIDE_GAP
        self.height = self.row.height + LINE + 2 * SIDE_GAP

    def draw(self, axes: "Axes", x: float, y: float) -> None:
        """Draw it with its upper left corner at (x, y)."""
        from matplotlib.patches import Rectangle

        style: dict[str, Any] = {"fill": False, "edgecolor": GRAY, "linestyle": (0, (4, 3))}
        axes.add_patch(Rectangle((x, y), self.width, self.height, linewidth=0.8, **style))
        inset = 0.75 * SIDE_GAP
        _write(axes, (x + inset, y + inset), (self.title, "bold"), "left")
        _write(axes, (x + self.width - inset, y + inset), (self.name, "gray"), "right")
        space = self.width - self.row.left - self.row.right
        self.row.draw(axes, x + space / 2 + self.row.left, y + LINE + SIDE_GAP)


@dataclass
class Sheet:
    """A long row in columns, and stacks of panels at their right."""

    columns: Sequence[RowDrawing]
    stacks: Sequence[Sequence[Panel]]

    def __post_init__(self) -> None:
        self.top = GAP if len(self.columns) > 1 else 0.0  # for the lines from column to column
        widths = [column.left + column.right for column in self.columns]
        widths += [max(panel.width for panel in stack) for stack in self.stacks]
        heights = [column.height + 2 * self.top for column in self.columns]
        heights += [sum(panel.height + GAP for panel in stack) for stack in self.stacks]
        self.width, self.height = sum(widths) + COLUMN_GAP * len(widths), max(heights)

    def draw(self, axes: "Axes", x: float, y: float) -> None:
        """Draw it with its upper left corner at (x, y)."""
        x += COLUMN_GAP / 2
        before: Point | None = None  # the end of the column before
        for column in self.columns:
            entry = (x + column.left, y + self.top)
            if before is not None:
                between, below = x - COLUMN_GAP / 2, before[1] + GAP
                ways = [before, (before[0], below), (between, below), (between, y)]
                _connect(axes, [*ways, (entry[0], y), entry])
            column.draw(axes, *entry)
            before = entry[0], entry[1] + column.height
            x += column.left + column.right + COLUMN_GAP
        for stack in self.stacks:
            place = y
            for panel in stack:
                panel.draw(axes, x, place)
                place += panel.height + GAP
            x += max(panel.width for panel in stack) + COLUMN_GAP


def widen(drawings: Sequence[Drawing]) -> None:
    """Give all boxes the same width."""
    boxes = [drawing for drawing in drawings if isinstance(drawing, BoxDrawing)]
    width = max((box.width for box in boxes), default=0.0)
    for box in boxes:
        box.width = width


@cache
def measure_text(text: str, style: str) -> float:
    """Return the width of a line of text."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    look = STYLES[style]
    font = FontProperties(size=look["size"], weight=look.get("weight"))
    latin = re.sub("[^ -~×…]", "W", text)  # a wide letter for each that the font may lack
    points, _, _ = text_to_path.get_text_width_height_descent(latin, font, ismath=False)
    return float(points) / 72


def _write(axes: "Axes", place: Point, line: Line, side: str = "center") -> None:
    text, style = line
    if text:
        look: dict[str, Any] = {"color": BLACK, **STYLES[style], "ha": side}
        axes.text(*place, text, va="center_baseline", **look)


def _connect(axes: "Axes", points: Sequence[Point], has_head: bool = True) -> None:
    """Draw a line along the points, with an arrowhead at the last."""
    style: dict[str, Any] = {"color": BLACK, "linewidth": 0.9}
    axes.plot(*zip(*points, strict=True), solid_joinstyle="miter", **style)
    if has_head:
        arrow = {"arrowstyle": "-|>", "mutation_scale": 7, "shrinkA": 0, "shrinkB": 0, **style}
        axes.annotate("", points[-1], points[-2], arrowprops=arrow)
