"""The page of `cnnbench inspect`."""

import re

import pytest
from markupsafe import escape

from cnnbench.reports.inspection.sections import Section
from cnnbench.reports.page import render_page

SECTIONS = [
    *("mistakes", "saliency", "feature_maps", "kernels", "activations", "weights"),
    *("gradients", "receptive_fields", "training_images"),
]
HOSTILE = "</td><script>alert('1')</script>\"'\x1b[2J\ud800{{ 7 * 7 }}"
TEXT = str(escape("</td><script>alert('1')</script>\"'?[2J?{{ 7 * 7 }}"))


@pytest.fixture(scope="module")
def page() -> str:
    sections = {name: Section(note=f"nothing of {name}") for name in SECTIONS}
    table = [("class", "times"), (HOSTILE, "3")]
    sections["mistakes"] = Section([("mistakes.png", HOSTILE)], table)
    facts = {"run": HOSTILE}
    return render_page("inspection.html.jinja", title=HOSTILE, facts=facts, sections=sections)


def test_text_of_a_run_is_escaped(page: str) -> None:
    assert page.count(TEXT) == 6  # title twice, fact, alternative text, caption, cell
    assert f'alt="The most confident mistakes: {TEXT}"' in page
    assert "alert('1')" not in page
    assert "\x1b" not in page


def test_page_loads_nothing_from_the_network(page: str) -> None:
    links = re.findall(r'(?:src|href)="([^#].*?)"', page)
    assert links == ["mistakes.png", "mistakes.png"]
    assert "content=\"default-src 'none'; script-src 'sha256-" in page.replace("&#39;", "'")


def test_page_has_link_and_note_for_each_section(page: str) -> None:
    assert re.findall('href="#(.*?)"', page) == SECTIONS
    assert re.findall('<section id="(.*?)">', page) == SECTIONS
    assert re.findall("<p>nothing of (.*?)</p>", page) == SECTIONS[1:]
