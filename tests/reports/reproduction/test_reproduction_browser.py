"""The page of `cnnbench reproduce` in a real browser, opened from disk."""

from typing import Any

import pytest
from browsing import DESKTOP, MARKS, PHONE, window
from made_records import made
from test_reproduction_rendering import HOSTILE, of

from cnnbench.reports.reproduction.book import BOOK
from cnnbench.reports.reproduction.page import render

pytestmark = MARKS


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    runs = [run for name in BOOK for run in made(name, {}, [0.7, 0.8, 0.9], earlier=[0.1] * 9)]
    runs += made("claims/pooling", {"model.pooling": HOSTILE}, [0.5, 0.6])
    page = tmp_path_factory.mktemp("results") / "results.html"
    page.write_text(render(of(runs)))
    return page.as_uri()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_is_as_wide_as_the_screen(browser: Any, address: str, size: dict[str, int]) -> None:
    with window(browser, address, viewport=size) as page:  # which also sees that the browser complains of nothing
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_words_of_a_picture_have_the_colour_of_those_around(browser: Any, address: str, scheme: str) -> None:
    with window(browser, address, color_scheme=scheme) as page:
        colours = [
            page.locator(each).first.evaluate(
                "node => getComputedStyle(node)[node.tagName == 'text' ? 'fill' : 'color']"
            )
            for each in ("figure svg text", "h1")
        ]
        assert colours[0] == colours[1]


def test_a_claim_is_reached_from_the_list_of_verdicts(browser: Any, address: str) -> None:
    with window(browser, address, viewport=PHONE) as page:
        page.get_by_role("link", name="8c. Dropout").click()
        assert -1 < page.locator("#claim-8c").bounding_box()["y"] < PHONE["height"]
