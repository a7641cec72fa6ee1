"""The page of `cnnbench inspect` in a real browser, opened from disk."""

from pathlib import Path
from typing import Any

from helpers.browser import MARKS, PHONE, open_window
from helpers.report_page import HOSTILE, LUMINANCE
from PIL import Image

from cnnbench.reports.inspection.sections import Section
from cnnbench.reports.page import render_page

pytestmark = MARKS


def test_inspect_page_has_pictures_and_dark_mode(browser: Any, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "filters.png")
    first = ("mistakes", "saliency", "feature_maps", "kernels", "activations", "weights")
    names = (*first, "gradients", "receptive_fields", "training_images")
    sections = dict.fromkeys(names, Section())
    sections["kernels"] = Section([("filters.png", HOSTILE)])
    text = render_page("inspection.html.jinja", title=HOSTILE, facts={}, sections=sections)
    (tmp_path / "index.html").write_text(text)
    with open_window(browser, (tmp_path / "index.html").as_uri(), viewport=PHONE) as page:
        assert page.evaluate("document.querySelector('img').naturalWidth") == 30
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.title() == f"{HOSTILE} (cnnbench)"
        before = page.evaluate(LUMINANCE, "body")
        page.get_by_role("button", name="Dark").click()
        assert page.evaluate(LUMINANCE, "body") < 50 < 200 < before
