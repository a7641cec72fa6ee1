"""Flow charts: where boxes, branches, panels and columns are drawn."""

from itertools import pairwise
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from cnnbench.reports.flowchart import (
    COLUMN_GAP,
    GAP,
    RADIUS,
    SIDE_GAP,
    BoxDrawing,
    JoinDrawing,
    Panel,
    RowDrawing,
    Sheet,
    SumDrawing,
    measure_text,
    widen,
)


def box(text: str = "Conv", **more: Any) -> BoxDrawing:
    return BoxDrawing([(text, "normal")], **more)


def draw(drawing: Any, x: float = 5.0, y: float = 1.0) -> Any:
    """Draw into axes of 10 x 10 inches; return them."""
    axes = Figure((10, 10)).add_axes((0, 0, 1, 1), xlim=(0, 10), ylim=(10, 0))
    drawing.draw(axes, x, y)
    return axes


def boxes(axes: Any) -> list[tuple[float, float, float, float]]:
    """Return left, top, right and bottom of each rectangle."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(*patch.get_xy(), *patch.get_bbox().p1) for patch in found]


def lines(axes: Any) -> list[list[tuple[float, float]]]:
    return [
        [(round(x, 3), round(y, 3)) for x, y in zip(*line.get_data(), strict=True)]
        for line in axes.lines
    ]


def heads(axes: Any) -> list[tuple[float, float]]:
    """Return the points of arrows."""
    return [(round(x, 3), round(y, 3)) for x, y in (a.xy for a in axes.texts if hasattr(a, "xy"))]


def test_box_is_as_wide_as_its_longest_line() -> None:
    short = box("i")
    long = BoxDrawing([("i", "normal"), ("a longer line", "bold")])
    assert long.width > measure_text("a longer line", "bold") > short.width
    assert long.left == long.right == long.width / 2
    assert long.height > short.height


def test_name_and_factor_are_beside_the_box() -> None:
    labeled = box(name="features.0", times=3)
    axes = draw(labeled)
    ((left, _, right, _),) = boxes(axes)
    places = {text.get_text(): text for text in axes.texts}
    name, factor = places["features.0"], places["× 3"]
    assert name.get_position()[0] < left < right < factor.get_position()[0]
    assert (name.get_ha(), factor.get_ha()) == ("right", "left")
    assert labeled.left > labeled.right > labeled.width / 2


def test_boxes_of_a_row_are_joined_by_arrows() -> None:
    first, second = box(), box()
    row = RowDrawing([first, second])
    axes = draw(row)
    (_, _, _, bottom), (_, top, _, end) = boxes(axes)
    assert top - bottom == pytest.approx(GAP)
    assert end == pytest.approx(1 + row.height)
    assert lines(axes) == [[(5, round(bottom, 3)), (5, round(top, 3))]]
    assert heads(axes) == [(5, round(top, 3))]


def test_widen_gives_boxes_the_same_width() -> None:
    drawings = [box("i"), box("a longer line"), SumDrawing([RowDrawing([box()])], "+")]
    widen(drawings)
    assert drawings[0].width == drawings[1].width
    widen([])


def test_sum_has_a_line_around_the_branch_to_its_circle() -> None:
    branch = RowDrawing([box()])
    fork = SumDrawing([branch, RowDrawing([])], "+")
    axes = draw(fork)
    (circle,) = (patch for patch in axes.patches if isinstance(patch, Circle))
    x, y = circle.center
    assert (x, y) == pytest.approx((5, 1 + fork.height - RADIUS))
    around = next(line for line in lines(axes) if len(line) == 3)
    assert around[1:] == [(round(5 + fork.places[1], 3), round(y, 3)), (5.1, round(y, 3))]
    ((_, _, right, _),) = boxes(axes)
    assert right + SIDE_GAP <= 5 + fork.places[1]
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["Conv", "+"]


def test_branches_of_a_join_are_side_by_side_above_a_wide_box() -> None:
    rows = [RowDrawing([box(text)]) for text in ("left", "middle", "right")]
    join = JoinDrawing(rows, box("concatenation"))
    axes = draw(join)
    *branches, (left, top, right, bottom) = boxes(axes)
    for (_, _, end, _), (start, _, _, _) in pairwise(branches):
        assert start - end == pytest.approx(SIDE_GAP)
    assert (left, right) == pytest.approx((branches[0][0], branches[-1][2]))
    assert bottom == pytest.approx(1 + join.height)
    downwards = [line for line in lines(axes) if line[1][1] == round(top, 3)]
    assert len(downwards) == 3  # each branch ends in the box


def test_row_inside_a_branch_begins_below_the_fork_without_an_arrowhead() -> None:
    inner = SumDrawing([RowDrawing([box()]), RowDrawing([])], "+")
    outer = SumDrawing([RowDrawing([inner]), RowDrawing([])], "+")
    assert not RowDrawing([inner]).is_box
    axes = draw(outer)
    entries = [point for point in heads(axes) if point[1] == pytest.approx(1 + GAP)]
    assert entries == []
    assert len([patch for patch in axes.patches if isinstance(patch, Circle)]) == 2


def test_panel_frames_its_row() -> None:
    panel = Panel("Residual", "example: stages.0.0", RowDrawing([box("Conv"), box("BN")]))
    axes = draw(panel, 1, 2)
    (left, top, right, bottom), *inside = boxes(axes)
    assert (left, top) == (1, 2)
    assert (right - left, bottom - top) == pytest.approx((panel.width, panel.height))
    for start, above, end, below in inside:
        assert left < start < end < right
        assert top < above < below < bottom


def test_long_name_widens_the_panel() -> None:
    narrow, wide = (Panel("A", name, RowDrawing([box()])) for name in ("b", "b" * 60))
    assert wide.width > narrow.width


def test_line_leads_from_one_column_to_the_next() -> None:
    columns = [RowDrawing([box(), box()]), RowDrawing([box()])]
    sheet = Sheet(columns, [])
    axes = draw(sheet, 0, 0)
    (way,) = (line for line in lines(axes) if len(line) == 6)
    _, (_, _, right, bottom), (left, top, _, _) = boxes(axes)
    assert way[0][1] == pytest.approx(bottom, abs=1e-3)
    assert way[-1] == (round((left + boxes(axes)[2][2]) / 2, 3), round(top, 3))
    assert right < way[2][0] < left  # between the columns
    assert way[3][1] == 0
    assert sheet.width == pytest.approx(sum(column.left * 2 for column in columns) + 2 * COLUMN_GAP)
    assert sheet.height == pytest.approx(columns[0].height + 2 * GAP)


def test_stacks_of_panels_are_beside_the_columns() -> None:
    panels = [Panel(title, "", RowDrawing([box()])) for title in "ABC"]
    sheet = Sheet([RowDrawing([box()])], [panels[:2], panels[2:]])
    _, *drawn = boxes(draw(sheet, 0, 0))
    frames = drawn[::2]
    assert frames[0][0] == frames[1][0] < frames[2][0]
    assert frames[0][1] == frames[2][1] == 0
    assert frames[1][1] == pytest.approx(frames[0][3] + GAP)
    assert max(right for _, _, right, _ in frames) <= sheet.width
    assert max(bottom for _, _, _, bottom in frames) <= sheet.height


def test_letters_that_the_font_lacks_are_measured_as_wide_ones() -> None:
    assert measure_text("残差块", "bold") == measure_text("WWW", "bold") > 3 * 8 / 72
