"""The picture of a confusion matrix."""

import io

import pytest
from matplotlib.image import imread

from cnnbench.reports.confusion import draw


@pytest.mark.parametrize("count", [2, 10, 21, 100, 150])
def test_any_number_of_classes_is_drawn_in_a_picture_that_fits_a_slide(count: int) -> None:
    file = io.BytesIO()
    draw(
        [[row * column for column in range(count)] for row in range(count)],
        [f"name {n}" for n in range(count)],
        "",
        file,
    )
    height, width, _ = imread(io.BytesIO(file.getvalue())).shape
    assert 400 < height <= width < 2500


def test_hostile_names_are_drawn_as_they_are() -> None:
    """matplotlib would take dollar signs for formulas, and fail on those that are none."""
    draw([[1, 0], [0, 1]], ["$\\frac{", "猫 a_b^$"], "$\\nothing$", io.BytesIO())
