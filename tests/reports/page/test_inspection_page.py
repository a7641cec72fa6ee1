"""The page that shows the pictures."""

from html.parser import HTMLParser

import pytest

from cnnbench.reports.inspection.sections import Section
from cnnbench.reports.page import render_page

SECTIONS = {
    *("mistakes", "saliency", "feature_maps", "kernels", "activations", "weights"),
    "receptive_fields",
}
HOSTILE = "</td><script>alert('1')</script>\"'\x1b[2J\ud800{{ 7 * 7 }}"
TEXT = "</td><script>alert('1')</script>\"'?[2J?{{ 7 * 7 }}"


class Page(HTMLParser):
    """The attributes of all tags, and the words between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str, attribute: str) -> list[str | None]:
        return [attributes.get(attribute) for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page() -> Page:
    sections = {name: Section(note=f"nothing of {name}") for name in SECTIONS}
    table = [("class", "times"), (HOSTILE, "3")]
    sections["mistakes"] = Section([("mistakes.png", HOSTILE)], table)
    facts = {"run": HOSTILE}
    text = render_page("inspection.html.jinja", title=HOSTILE, facts=facts, sections=sections)
    return Page(text)


def test_words_of_a_run_are_text(page: Page) -> None:
    assert page.words.count(TEXT) == 5  # title twice, fact, caption, cell
    assert page.all("img", "alt") == [f"The most confident mistakes: {TEXT}"]
    assert len(page.all("script", "src")) == 1  # the page's own


def test_nothing_comes_from_elsewhere(page: Page) -> None:
    links = [*page.all("img", "src"), *page.all("a", "href"), *page.all("script", "src")]
    assert {link for link in links if link and not link.startswith("#")} == {"mistakes.png"}
    assert page.all("link", "href") == []
    policy = page.all("meta", "content")[1]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_every_section_can_be_jumped_to_and_says_why_it_is_empty(page: Page) -> None:
    jumps = [link[1:] for link in page.all("a", "href") if link and link.startswith("#")]
    assert jumps == page.all("section", "id")
    assert set(jumps) == SECTIONS
    assert all(f"nothing of {name}" in page.words for name in SECTIONS - {"mistakes"})
