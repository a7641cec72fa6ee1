"""Fonts for Chinese, Japanese and Korean letters, which the font of matplotlib lacks."""

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["use_fallback_fonts"]

CJK_FAMILIES = (  # the families of Linux, macOS and Windows
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "AR PL UMing CN"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti TC", "Arial Unicode MS", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "NanumGothic"),
)


def use_fallback_fonts(figure: "Figure") -> None:
    """Set installed CJK fonts as fallbacks if a text has letters that the default font lacks."""
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    letters = set().union(*(text.get_text() for text in texts))
    if not letters <= _list_default_letters():
        for text in texts:
            text.set_fontfamily(_list_families())


@cache
def _list_default_letters() -> set[str]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return {"\n", *map(chr, get_font(findfont(FontProperties())).get_charmap())}


@cache
def _list_families() -> list[str]:
    """Return the default family and the installed CJK families."""
    from matplotlib import rcParams
    from matplotlib.font_manager import findSystemFonts, fontManager

    listed = {font.fname for font in fontManager.ttflist}
    for path in set(findSystemFonts()) - listed:  # installed after matplotlib cached its list
        with suppress(OSError, RuntimeError):
            fontManager.addfont(path)
    installed = {font.name for font in fontManager.ttflist}
    return [*rcParams["font.family"], *(name for name in CJK_FAMILIES if name in installed)]
