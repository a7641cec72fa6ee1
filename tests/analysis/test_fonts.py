"""Chinese letters in figures: drawn if a font for them is installed, otherwise boxes."""

import warnings
from collections.abc import Iterator
from io import BytesIO

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from cnnbench.analysis import fonts
from cnnbench.analysis.fonts import CJK_FAMILIES, use_fallback_fonts

CHINESE = "猫 and dog"


@pytest.fixture(autouse=True)
def _clear_font_cache() -> Iterator[None]:
    fonts._list_families.cache_clear()
    yield
    fonts._list_families.cache_clear()


def draw(title: str) -> Figure:
    figure = Figure()
    figure.subplots().set_xticks([0, 1], ["a", title])
    figure.suptitle("title")
    use_fallback_fonts(figure)
    figure.savefig(BytesIO())
    return figure


def test_chinese_uses_font_installed_after_matplotlib_cached_fonts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = font_manager.findSystemFonts()
    chinese = {file for file in files if font_manager.get_font(file).family_name in CJK_FAMILIES}
    if not chinese:
        pytest.skip("needs a Chinese font: apt-get install fonts-wqy-microhei")
    # matplotlib lists a font under each of its names, and some names are Chinese
    listed = [font for font in font_manager.fontManager.ttflist if font.fname not in chinese]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns about missing glyphs
        draw(CHINESE)


def test_default_font_draws_without_cjk_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "CJK_FAMILIES", ())
    with pytest.warns(UserWarning, match="missing from font"):
        figure = draw(CHINESE)
    assert figure.get_suptitle() == "title"


def test_fonts_are_not_searched_if_default_has_all_letters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: pytest.fail("searched for fonts"))
    draw("é ± → … ×\nkü")
