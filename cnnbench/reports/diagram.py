"""The diagram of a network: boxes with shapes, branches and joins, for `cnnbench summary`.

The main row runs from the image to the logits. Beside it, each kind of block is drawn once with its
branches.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from string import ascii_uppercase
from typing import TypeVar

import numpy as np

from cnnbench.analysis.format import truncate
from cnnbench.analysis.network_blocks import MAIN, Block, Box, Fork, Part, list_parts
from cnnbench.analysis.network_graph import Graph, format_sides
from cnnbench.reports.figures import draw_figure
from cnnbench.reports.flowchart import (
    GAP,
    BoxDrawing,
    Drawing,
    JoinDrawing,
    Line,
    Panel,
    RowDrawing,
    Sheet,
    SumDrawing,
    widen,
)

__all__ = ["draw_diagram", "lay_out"]

D = TypeVar("D", Drawing, Panel)

HEAD, FOOT = 0.5, 0.5  # inches for the title and the note
PAGE = (11.0, 7.6 - HEAD - FOOT)  # for the rest, on A4 on its side
MIN_WIDTH = 5.0  # for the title
STEP = 0.1  # between heights of columns to try
MAX_NAME = 32  # characters
COLORS = {
    **{"image": "#ffffff", "convolution": "#cfe3f3", "linear": "#d5ecd4", "pooling": "#fbdfc1"},
    **{"block": "#e4daf0", "other": "#f0f0f0"},
}
SIGNS = {"sum": "+", "product": "×"}
LEGEND = {", /": "/2: stride 2", ", pad ": "pad 1: padding of 1", "BN": "BN: batch normalization"}


def draw_diagram(path: Path, graph: Graph, title: str) -> None:
    """Draw a network as an SVG or a PNG into `path`.

    Raises:
        OSError: the file cannot be written.
    """
    parts = list_parts(graph)
    sheet = lay_out(parts, graph.nodes[0].shape)
    width, height = max(sheet.width, MIN_WIDTH), HEAD + sheet.height + FOOT
    with draw_figure(path, title, (width, height), _write_note(graph, parts)) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        sheet.draw(axes, 0, HEAD)


def lay_out(parts: Sequence[Part], image: Sequence[int]) -> Sheet:
    """Return the sheet with even columns among those that leave the text largest on a page.

    `image` is the shape (C, H, W) of the image.
    """
    blocks = _name_blocks(parts)
    titles = {block.pattern: title for title, block in blocks.items()}
    panels = [_draw_panel(title, block) for title, block in blocks.items()]
    start = BoxDrawing([("image", "normal"), (format_sides(image), "gray")])
    items = [start, *(_draw_part(part, titles, is_main=True) for part in parts)]
    widen(items)
    sheets = []
    total = RowDrawing(items).height
    for limit in np.arange(max(item.height for item in items), total + STEP, STEP):
        columns = [RowDrawing(column) for column in _stack(items, limit)]
        sheets.append(Sheet(columns, _stack(panels, max(limit, PAGE[1]))))
    shares = [max(sheet.width / PAGE[0], sheet.height / PAGE[1]) for sheet in sheets]
    large = [
        sheet for sheet, share in zip(sheets, shares, strict=True) if share < 1.1 * min(shares)
    ]
    return min(large, key=lambda sheet: sheet.height)


def _stack(drawings: Sequence[D], limit: float) -> list[list[D]]:
    """Divide drawings into stacks of at most this height, or of one drawing."""
    stacks: list[list[D]] = []
    height = limit
    for drawing in drawings:
        height += GAP + drawing.height
        if height > limit:
            stacks.append([])
            height = drawing.height
        stacks[-1].append(drawing)
    return stacks


def _walk(parts: Sequence[Part]) -> Iterator[Part]:
    """Yield the parts, and those inside of them."""
    for part in parts:
        yield part
        match part:
            case Fork():
                yield from _walk([*chain(*part.branches)])
            case Block():
                yield from _walk(part.parts)


def _name_blocks(parts: Sequence[Part]) -> dict[str, Block]:
    """Return the first block of each pattern, by a title such as "Residual B"."""
    firsts: dict[tuple[str, ...], Block] = {}
    for part in _walk(parts):
        if isinstance(part, Block) and part.parts:
            firsts.setdefault(part.pattern, part)
    numbers = Counter(block.kind for block in firsts.values())
    letters: Counter[str] = Counter()
    titles = {}
    for block in firsts.values():
        title = truncate(block.kind, MAX_NAME)
        if numbers[block.kind] > 1:
            title += f" {ascii_uppercase[letters[block.kind] % 26]}"
            letters[block.kind] += 1
        titles[title] = block
    return titles


def _draw_panel(title: str, block: Block) -> Panel:
    """Return a panel with the branches of a block, between the shapes of its input and output."""
    start, end = (
        BoxDrawing([(format_sides(shape), "gray")], has_edge=False)
        for shape in (block.source, block.parts[-1].shape)
    )
    items = [start, *(_draw_part(part, {}) for part in block.parts), end]
    return Panel(title, f"example: {truncate(block.names[0], MAX_NAME)}", RowDrawing(items))


def _draw_part(
    part: Part, titles: Mapping[tuple[str, ...], str], is_main: bool = False
) -> BoxDrawing | SumDrawing | JoinDrawing:
    """Return the drawing of a part. Those of the main row have names."""
    match part:
        case Box():
            return _draw_box(part, is_main)
        case Block():
            title = titles.get(part.pattern, truncate(part.kind, MAX_NAME))
            lines = [(title, "bold"), (format_sides(part.shape), "gray")]
            channels = _describe_channels(part)
            if channels:
                lines.insert(1, (channels, "normal"))
            name = truncate(part.names[0], MAX_NAME) if is_main else ""
            return BoxDrawing(lines, COLORS["block"], name, part.times)
    rows = []
    for branch in part.branches:
        items = [_draw_part(inner, titles) for inner in branch]
        widen(items)
        rows.append(RowDrawing(items))
    if part.join.kind in SIGNS:
        return SumDrawing(rows, SIGNS[part.join.kind])
    lines = [(truncate(part.join.label, MAX_NAME), "normal"), (format_sides(part.shape), "gray")]
    return JoinDrawing(rows, BoxDrawing(lines, COLORS["other"]))


def _draw_box(box: Box, has_name: bool) -> BoxDrawing:
    """Return a box with a line for its main layer, and one each for those before and after it."""
    lines: list[Line] = []
    for _, nodes in groupby(box.nodes, key=lambda node: node.kind in MAIN):
        text = " + ".join(node.label for node in nodes)
        lines.append((truncate(text, 2 * MAX_NAME), "normal"))
    main = next((node for node in box.nodes if node.kind in MAIN), box.nodes[0])
    if main.kind in MAIN and main.kind != "linear":
        lines.append((format_sides(box.shape), "gray"))
    name = truncate(main.name, MAX_NAME) if has_name else ""
    return BoxDrawing(lines, COLORS.get(main.kind, COLORS["other"]), name, box.times)


def _describe_channels(block: Block) -> str:
    """Return the channels that a block concatenates, or "" if it does not end in that."""
    fork = block.parts[-1] if block.parts else None
    if not isinstance(fork, Fork) or fork.join.kind != "concatenation":
        return ""
    if block.times > 1:
        growth = (block.shape[0] - block.source[0]) // block.times
        return f"{block.source[0]} + {block.times} × {growth}"
    shapes = [branch[-1].shape if branch else block.source for branch in fork.branches]
    return " + ".join(str(shape[0]) for shape in shapes)


def _write_note(graph: Graph, parts: Sequence[Part]) -> str:
    """Return what the signs in the boxes mean."""
    labels = [node.label for node in graph.nodes]
    notes = [text for sign, text in LEGEND.items() if any(sign in label for label in labels)]
    if any(not isinstance(part, Fork) and part.times > 1 for part in _walk(parts)):
        notes.append("× 2: twice in a row")
    return "; ".join(notes)
