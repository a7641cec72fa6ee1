"""Figures with untrusted text."""

from pathlib import Path

import pytest
from matplotlib.image import imread

from cnnbench.reports.figures import DOTS_PER_INCH, draw_figure


def test_figure_is_saved_with_title_and_truncated_note(tmp_path: Path) -> None:
    with draw_figure(tmp_path / "it.png", "a title", (4, 3), "note " * 100) as figure:
        figure.subplots()
    assert figure.get_suptitle() == "a title"
    assert len(figure.get_supxlabel()) == 140
    height, width, _ = imread(tmp_path / "it.png").shape
    assert abs(width - 4 * DOTS_PER_INCH) < DOTS_PER_INCH
    assert abs(height - 3 * DOTS_PER_INCH) < DOTS_PER_INCH


@pytest.mark.parametrize("title", ["$\\frac{", "a_b^$", "照片", "\udcff\n"])
def test_figure_accepts_any_title(tmp_path: Path, title: str) -> None:
    with draw_figure(tmp_path / "it.png", title, (4, 3), title) as figure:
        figure.subplots().set_title(title.encode(errors="replace").decode())
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")


def test_suffix_is_the_format(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        with draw_figure(tmp_path / name, "a title", (4, 3)) as figure:
            figure.subplots().plot([1, 2])
    content = (tmp_path / "a.svg").read_bytes()
    assert content.startswith(b"<?xml")
    assert b"<dc:date>" not in content
    assert content == (tmp_path / "b.svg").read_bytes()


def test_figure_is_not_saved_after_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        draw_figure(tmp_path / "it.png", "a title", (4, 3)),
    ):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
