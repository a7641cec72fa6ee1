"""The picture of a confusion matrix."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from cnnbench.reports.confusion import draw_confusion


@pytest.mark.parametrize("count", [2, 10, 21, 100, 150])
def test_confusion_picture_has_size_of_a_slide_for_any_number_of_classes(
    count: int, tmp_path: Path
) -> None:
    counts = [[row * column for column in range(count)] for row in range(count)]
    path = tmp_path / "it.png"
    draw_confusion(path, counts, [f"name {number}" for number in range(count)], "title", "note")
    height, width, _ = imread(path).shape
    assert 400 < height <= width < 2500


def test_confusion_rows_are_true_classes_with_any_names(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def record(figure: Figure, *arguments: Any, **keywords: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **keywords)

    monkeypatch.setattr(Figure, "savefig", record)
    names = ["$\\frac{", "猫 a_b^$"]
    draw_confusion(tmp_path / "it.png", [[3, 1], [0, 4000]], names, "$\\nothing$", "")
    axes, _ = figures[0].axes
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): "3", (1, 0): "1", (1, 1): "4,000"}
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0, 1]]
